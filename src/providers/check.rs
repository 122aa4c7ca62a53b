//! From the written form of a provider to the one that works, or to a sentence about what is wrong.

use super::{
    JUNK_MARK, Provider, Renewal, SchemaError, authorize, builtin_source,
    interpret::{Answers, Junk},
    request::{Placeholder, Probe, Refresh, Template},
    rules::{Matcher, Path, Row, Rules, Subject, Test},
    schema::{
        AnswerForm, ClientAuth, Condition, Environment, ErrorForm, ErrorRow, JunkForm, MatchForm,
        MethodWord, OneOrMany, Ordered, OutcomeWord, ProbeForm, ProviderFile, RefreshEndWord,
        RenewalWord, RequestForm, Scalar, SendAs, Where,
    },
    webhook,
};
use crate::core::{Cause, second_clock::Moves};
use regex_lite::RegexBuilder;
use std::sync::Arc;

pub(super) type Checked<T> = Result<T, SchemaError>;

/// Reads a provider file, naming the key that is wrong.
pub(super) fn parse(yaml: &str) -> Checked<ProviderFile> {
    if yaml.len() > FILE_BYTES_MAX {
        return wrong(".", format!("a provider file has at most {FILE_BYTES_MAX} bytes"));
    }
    let yaml = serde_yaml::Deserializer::from_str(yaml);
    serde_path_to_error::deserialize(yaml).map_err(|error| {
        let at = error.path().to_string();
        let reason = error.into_inner().to_string();
        // The reader may put the key, or the one above it, in front as well.
        let reason = match reason.split_once(": ") {
            Some((key, rest)) if at.starts_with(key) => rest.to_owned(),
            _ => reason,
        };
        SchemaError { at, reason }
    })
}

/// Checks what the form alone cannot and builds the provider, as apps of `environment` see it.
pub(super) fn build(mut file: ProviderFile, environment: Environment) -> Checked<Provider> {
    check_word("name", &file.name)?;
    if file.title.trim().is_empty() {
        return wrong("title", "is empty; expected a name for people");
    }
    for (at, url) in [
        ("endpoints.authorize", &file.endpoints.authorize),
        ("endpoints.token", &file.endpoints.token),
        ("endpoints.lengthen", &file.endpoints.lengthen),
        ("endpoints.refresh", &file.endpoints.refresh),
        ("endpoints.revoke", &file.endpoints.revoke),
        ("endpoints.probe", &file.endpoints.probe),
        ("endpoints.publish_check", &file.endpoints.publish_check),
    ] {
        url.as_deref().map_or(Ok(()), |url| check_url(at, url))?;
    }
    let renewal = match file.renewal {
        RenewalWord::Rotating => Renewal::Rotating,
        RenewalWord::Stable => Renewal::Stable,
        RenewalWord::ExtendInPlace => Renewal::ExtendInPlace,
        RenewalWord::ReconnectOnly => Renewal::ReconnectOnly,
    };
    let answers = answers("answer", &file.answer)?;
    let consent = consent(&mut file)?;
    let heard = webhook::Rows::of(&file.errors);
    let names_app = file.refresh.as_ref().is_some_and(|form| form.client_auth != ClientAuth::None);
    let rules = rules(file.errors, file.errors_like.as_deref(), &file.error, environment)?;
    let webhook = file.webhook.map(webhook::checked);
    let webhook = heard.fit(webhook.transpose()?)?;
    let junk = file.junk.map(|form| junk(form, renewal, names_app, &rules)).transpose()?;
    Ok(Provider {
        environment,
        renewal,
        min_age: file.min_age,
        assumed_access_life: file.assumed_life.access,
        assumed_refresh_life: file.assumed_life.refresh,
        testing_refresh_life: file.assumed_life.testing,
        refresh_end: match file.refresh_end {
            RefreshEndWord::Learnt => Moves::Unknown,
            RefreshEndWord::Absolute => Moves::Absolute,
            RefreshEndWord::Sliding => Moves::Sliding,
        },
        consent,
        authorize_endpoint: file.endpoints.authorize,
        code_endpoint: file.endpoints.token.clone(),
        lengthen_endpoint: file.endpoints.lengthen,
        refresh_endpoint: file.endpoints.refresh.or(file.endpoints.token),
        probe_endpoint: file.endpoints.probe,
        publish_check_endpoint: file.endpoints.publish_check,
        refresh: refresh(renewal, file.refresh)?,
        probe: file.probe.map(|form| probe("probe", form)).transpose()?,
        publish_check: publish_check(file.publish_check)?,
        junk,
        webhook,
        answers,
        rules,
        name: file.name,
        title: file.title,
    })
}

/// How a person connects an account, or what to do instead.
fn consent(file: &mut ProviderFile) -> Checked<Result<authorize::Authorize, String>> {
    match (file.authorize.take(), file.instead_of_consent.take()) {
        (Some(_), Some(_)) => {
            wrong("instead_of_consent", "contradicts `authorize`; remove one of the two")
        }
        (Some(form), None) => authorize::checked(form, &file.answer).map(Ok),
        (None, Some(sentence)) if sentence.trim().is_empty() => {
            wrong("instead_of_consent", "is empty; expected a sentence for people")
        }
        (None, sentence) => Ok(Err(sentence.unwrap_or_else(|| NO_CONSENT.to_owned()))),
    }
}

fn refresh(renewal: Renewal, form: Option<RequestForm>) -> Checked<Option<Refresh>> {
    let Some(form) = form else {
        return match renewal {
            Renewal::ReconnectOnly => Ok(None),
            _ => wrong("refresh", "is missing; only `renewal: reconnect_only` goes without"),
        };
    };
    let client_auth = form.client_auth;
    let refresh = request("refresh", form, &Placeholder::OF_TOKENS)?;
    let credential = match renewal {
        Renewal::Rotating | Renewal::Stable => Template::REFRESH_TOKEN,
        Renewal::ExtendInPlace => Template::ACCESS_TOKEN,
        Renewal::ReconnectOnly => {
            return wrong(
                "refresh",
                "contradicts `renewal: reconnect_only`; remove one of the two",
            );
        }
    };
    if !refresh.uses(credential) {
        return wrong("refresh.params", format!("nothing sends `{credential}`, which renews here"));
    }
    named(client_auth, "refresh", &refresh)?;
    Ok(Some(refresh))
}

/// A request as written, with placeholders out of `known`.
pub(super) fn request(at: &str, form: RequestForm, known: &[Placeholder]) -> Checked<Refresh> {
    let send_as = match (form.method, form.send_as) {
        (MethodWord::Get, None | Some(SendAs::Query)) => SendAs::Query,
        (MethodWord::Get, Some(_)) => {
            return wrong(&format!("{at}.send_as"), "a GET has no body; expected `query`");
        }
        (MethodWord::Post, how) => how.unwrap_or(SendAs::Form),
    };
    Ok(Refresh {
        method: form.method,
        send_as,
        basic: form.client_auth == ClientAuth::Basic,
        params: templates_of(&format!("{at}.params"), form.params, known)?,
        headers: headers_of(&format!("{at}.headers"), form.headers, known)?,
    })
}

/// The app is named in a request as the file says, and once.
pub(super) fn named(how: ClientAuth, at: &str, request: &Refresh) -> Checked<()> {
    let at = format!("{at}.client_auth");
    match how {
        ClientAuth::Params if !request.uses(Template::CLIENT_ID) => wrong(
            &at,
            "the app is not named: no parameter holds `{client_id}`; add one, or say `basic` or `none`",
        ),
        ClientAuth::None if request.uses(Template::CLIENT_SECRET) => {
            wrong(&at, "is `none`, yet something sends `{client_secret}`")
        }
        ClientAuth::Basic if request.uses(Template::CLIENT_SECRET) => wrong(
            &at,
            "is `basic`, yet something else sends `{client_secret}` too; RFC 6749 section 2.3 forbids both",
        ),
        _ => Ok(()),
    }
}

fn publish_check(form: Option<ProbeForm>) -> Checked<Option<Probe>> {
    match form.map(|form| probe("publish_check", form)).transpose()? {
        Some(check) if !check.free => wrong(
            "publish_check.free",
            "is made after each recovery; leave it out where it costs money",
        ),
        check => Ok(check),
    }
}

fn probe(at: &str, form: ProbeForm) -> Checked<Probe> {
    let key = |name: &str| format!("{at}.{name}");
    let probe = Probe {
        method: form.method,
        query: templates(&key("query"), form.query)?,
        headers: headers(&key("headers"), form.headers)?,
        success: form.success.map(|success| condition(&key("success"), success)).transpose()?,
        subject: optional_path(&key("subject"), form.subject.as_deref())?,
        free: form.free,
    };
    for foreign in [Template::CLIENT_ID, Template::CLIENT_SECRET, Template::REFRESH_TOKEN] {
        if probe.uses(foreign) {
            return wrong(at, format!("may hold `{{access_token}}` but not `{foreign}`"));
        }
    }
    if !probe.uses(Template::ACCESS_TOKEN) {
        return wrong(at, "nothing sends `{access_token}`");
    }
    Ok(probe)
}

fn junk(form: JunkForm, renewal: Renewal, names_app: bool, rules: &Rules) -> Checked<Junk> {
    if !matches!(renewal, Renewal::Rotating | Renewal::Stable) {
        return wrong("junk", "nothing is renewed with a refresh token here; remove it");
    }
    if !names_app {
        return wrong(
            "junk",
            "the app is not named in a refresh, so no answer is about it; remove it",
        );
    }
    let at = "junk.refresh_token";
    if !form.refresh_token.contains(JUNK_MARK) {
        return wrong(
            at,
            format!("expected a text with `{JUNK_MARK}` in it, so that it is nobody's"),
        );
    }
    let is_token = form.refresh_token.bytes().all(|b| b.is_ascii_graphic());
    if !is_token || form.refresh_token.len() > JUNK_BYTES_MAX {
        let expected =
            format!("expected at most {JUNK_BYTES_MAX} visible characters without blanks");
        return wrong(at, expected);
    }
    let refuses_app = |row: &Row| {
        matches!(row.place, Where::Any | Where::Token)
            && row.cause == Cause::AppCredentialsRejected
            && row.app_wide != Some(false)
    };
    if !rules.rows.iter().any(refuses_app) {
        return wrong("junk", "no row of `errors` says how a refused app is told; add one");
    }
    let app_is_fine = matcher("junk.app_is_fine", form.app_is_fine, 0)?;
    Ok(Junk { refresh_token: form.refresh_token, app_is_fine })
}

pub(super) fn answers(at: &str, form: &AnswerForm) -> Checked<Answers> {
    let below_root = |key: &str, path: &str| {
        let path = match &form.root {
            Some(root) => format!("{root}.{path}"),
            None => path.to_owned(),
        };
        path_at(&format!("{at}.{key}"), &path)
    };
    Ok(Answers {
        success: form
            .success
            .clone()
            .map(|success| condition(&format!("{at}.success"), success))
            .transpose()?,
        access: below_root("access_token", &form.access_token)?,
        refresh: below_root("refresh_token", &form.refresh_token)?,
        expires_in: below_root("expires_in", &form.expires_in)?,
        refresh_expires_in: below_root("refresh_expires_in", &form.refresh_expires_in)?,
        scope: below_root("scope", &form.scope)?,
        subject: form.subject.as_deref().map(|path| below_root("subject", path)).transpose()?,
    })
}

fn rules(
    own: Vec<ErrorRow>,
    like: Option<&str>,
    error: &ErrorForm,
    environment: Environment,
) -> Checked<Rules> {
    let mut forms = own;
    if let Some(name) = like {
        let Some(source) = builtin_source(name) else {
            return wrong("errors_like", format!("`{name}` is not in the catalogue"));
        };
        forms.extend(parse(source)?.errors);
    }
    if forms.len() > ROWS_MAX {
        return wrong("errors", format!("has more than {ROWS_MAX} rows"));
    }
    let code = paths("error.code", &error.code)?;
    let subcode = paths("error.subcode", &error.subcode)?;
    let log_id = paths("error.log_id", &error.log_id)?;
    let mut rules = Rules {
        rows: Vec::with_capacity(forms.len()),
        known: error.known_codes.iter().map(|code| Arc::from(code.0.as_str())).collect(),
        known_ranges: Vec::new(),
        code,
        subcode,
        log_id,
    };
    for (index, form) in forms.into_iter().enumerate() {
        let applies = form.environment.is_none_or(|only| only == environment);
        let row = row(&format!("errors[{index}]"), form)?;
        if let Some(matcher) = &row.matcher {
            learn_codes(&mut rules, matcher);
        }
        if applies {
            rules.rows.push(row);
        }
    }
    Ok(rules)
}

/// A code that some row tests for is a word of the table and may be shown.
fn learn_codes(rules: &mut Rules, matcher: &Matcher) {
    if let Subject::Path(path) = &matcher.subject
        && (rules.code.contains(path) || rules.subcode.contains(path))
    {
        match &matcher.test {
            Test::OneOf(words) => rules.known.extend(words.iter().map(|word| word.as_str().into())),
            Test::Range(from, to) => rules.known_ranges.push((*from, *to)),
            Test::Contains(_) | Test::Present(_) | Test::Past(_) | Test::DiffersFrom(_) => {}
        }
    }
    if let Some(and) = &matcher.and {
        learn_codes(rules, and);
    }
}

fn row(at: &str, form: ErrorRow) -> Checked<Row> {
    if let Some(detail) = &form.detail {
        check_word(&format!("{at}.detail"), detail)?;
    }
    if form.matches.is_none() && form.status.0.is_empty() {
        return wrong(at, "fits every answer, good ones too; add `status` or `match`");
    }
    if matches!(form.place, Where::Redirect | Where::Webhook) && !form.status.0.is_empty() {
        return wrong(&format!("{at}.status"), "what is no HTTP answer has no status; remove it");
    }
    if (form.grant.is_some() || form.younger_than.is_some()) && form.place != Where::Token {
        return wrong(
            &format!("{at}.where"),
            "expected `token`, the only place where `grant` and `younger_than` are known",
        );
    }
    if form.outcome.is_some() && form.place != Where::Token && form.place != Where::Any {
        return wrong(
            &format!("{at}.outcome"),
            "only answers of the token endpoint have an outcome",
        );
    }
    Ok(Row {
        place: form.place,
        status: form.status.0,
        grant: form.grant,
        younger_than: form.younger_than,
        matcher: form
            .matches
            .map(|matches| matcher(&format!("{at}.match"), matches, 0))
            .transpose()?,
        cause: form.cause,
        detail: form.detail.map(Into::into),
        app_wide: form.app_wide,
        outcome: form.outcome.unwrap_or_else(|| outcome_of(form.cause)),
    })
}

/// What a refusal with this cause says about the refresh token. A refusal that came before the token was
/// looked at left it alone; an outage may have struck after.
const fn outcome_of(cause: Cause) -> OutcomeWord {
    match cause {
        Cause::AccessTokenExpired
        | Cause::RefreshTokenExpired
        | Cause::RefreshTokenRejected
        | Cause::ConsentRevoked => OutcomeWord::Dead,
        Cause::ProviderOutage => OutcomeWord::Ambiguous,
        _ => OutcomeWord::NotCommitted,
    }
}

fn matcher(at: &str, form: MatchForm, depth: usize) -> Checked<Matcher> {
    if depth >= MATCH_DEPTH_MAX {
        return wrong(at, format!("`and` goes deeper than {MATCH_DEPTH_MAX}"));
    }
    let mut tests = Vec::new();
    if let Some(Scalar(value)) = form.eq {
        tests.push(Test::OneOf(vec![value]));
    }
    if let Some(values) = form.one_of {
        tests.push(Test::OneOf(values.into_iter().map(|Scalar(value)| value).collect()));
    }
    if let Some(pattern) = form.re {
        tests.push(Test::Contains(regex(&format!("{at}.re"), &pattern)?));
    }
    if let Some((from, to)) = form.range {
        if from > to {
            return wrong(&format!("{at}.range"), "ends before it begins");
        }
        tests.push(Test::Range(from, to));
    }
    if let Some(wanted) = form.present {
        tests.push(Test::Present(wanted));
    }
    tests.extend(form.past.map(Test::Past));
    tests.extend(form.differs_from.map(Test::DiffersFrom));
    let subject = match (form.path, form.bearer_error) {
        (Some(path), None) => Subject::Path(path_at(&format!("{at}.path"), &path)?),
        (None, Some(word)) => {
            tests.push(Test::OneOf(vec![word]));
            Subject::BearerError
        }
        _ => return wrong(at, "expected either `path` or `bearer_error`"),
    };
    let Ok([test]) = <[Test; 1]>::try_from(tests) else {
        return wrong(at, TESTS_EXPECTED);
    };
    let and = form
        .and
        .map(|and| matcher(&format!("{at}.and"), *and, depth + 1))
        .transpose()?
        .map(Box::new);
    Ok(Matcher { subject, test, and })
}

fn regex(at: &str, pattern: &str) -> Checked<regex_lite::Regex> {
    if pattern.is_empty() || pattern.len() > PATTERN_BYTES_MAX {
        return wrong(at, format!("expected 1 to {PATTERN_BYTES_MAX} bytes"));
    }
    RegexBuilder::new(pattern)
        .case_insensitive(true)
        .build()
        .or_else(|error| wrong(at, format!("is no regular expression: {error}")))
}

fn condition(at: &str, form: Condition) -> Checked<(Path, String)> {
    Ok((path_at(&format!("{at}.path"), &form.path)?, form.eq.0))
}

fn paths(at: &str, OneOrMany(texts): &OneOrMany<String>) -> Checked<Vec<Path>> {
    texts.iter().map(|text| path_at(at, text)).collect()
}

pub(super) fn optional_path(at: &str, text: Option<&str>) -> Checked<Option<Path>> {
    text.map(|text| path_at(at, text)).transpose()
}

pub(super) fn path_at(at: &str, text: &str) -> Checked<Path> {
    Path::parse(text).or_else(|reason| wrong(at, reason))
}

fn templates(at: &str, entries: Ordered) -> Checked<Vec<(String, Template)>> {
    templates_of(at, entries, &Placeholder::OF_TOKENS)
}

pub(super) fn templates_of(
    at: &str,
    Ordered(entries): Ordered,
    known: &[Placeholder],
) -> Checked<Vec<(String, Template)>> {
    if entries.len() > PARAMS_MAX {
        return wrong(at, format!("has more than {PARAMS_MAX} entries"));
    }
    let template = |(name, text): (String, String)| match Template::parse(&text, known) {
        Ok(template) => Ok((name, template)),
        Err(reason) => wrong(&format!("{at}.{name}"), reason),
    };
    entries.into_iter().map(template).collect()
}

fn headers(at: &str, entries: Ordered) -> Checked<Vec<(String, Template)>> {
    headers_of(at, entries, &Placeholder::OF_TOKENS)
}

fn headers_of(
    at: &str,
    entries: Ordered,
    known: &[Placeholder],
) -> Checked<Vec<(String, Template)>> {
    for (name, value) in &entries.0 {
        let token = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || !name.chars().all(token) || value.contains(|c: char| c.is_control()) {
            return wrong(&format!("{at}.{name}"), "is no HTTP header");
        }
        if OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            return wrong(&format!("{at}.{name}"), "is set by this program; remove it");
        }
    }
    templates_of(at, entries, known)
}

fn check_url(at: &str, url: &str) -> Checked<()> {
    let Some(rest) = url.strip_prefix("https://") else {
        return wrong(at, "expected an URL that begins with https://");
    };
    let host = rest.split('/').next().unwrap_or_default();
    let plain = !url.contains(|c: char| c.is_whitespace() || c.is_control() || "?#@".contains(c));
    if host.is_empty() || !plain {
        return wrong(at, "expected an URL with a host and without user, query and fragment");
    }
    Ok(())
}

/// Words that become labels: small letters, digits and underscores.
fn check_word(at: &str, word: &str) -> Checked<()> {
    let small = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if word.is_empty() || word.len() > WORD_BYTES_MAX || !word.bytes().all(small) {
        let expected =
            format!("expected 1 to {WORD_BYTES_MAX} small letters, digits or underscores");
        return wrong(at, expected);
    }
    Ok(())
}

pub(super) fn wrong<T>(at: &str, reason: impl Into<String>) -> Checked<T> {
    Err(SchemaError { at: at.to_owned(), reason: reason.into() })
}

const NO_CONSENT: &str =
    "Its description does not say how an account is connected; connect it in the publisher.";
const TESTS_EXPECTED: &str =
    "expected exactly one of `eq`, `in`, `re`, `range`, `present`, `past`, `differs_from`";
const OURS: [&str; 5] = ["content-type", "content-length", "host", "user-agent", "connection"];
/// Longest provider file.
pub const FILE_BYTES_MAX: usize = 64 * 1024;
const ROWS_MAX: usize = 256;
const JUNK_BYTES_MAX: usize = 256;
const PARAMS_MAX: usize = 32;
const MATCH_DEPTH_MAX: usize = 4;
const PATTERN_BYTES_MAX: usize = 200;
const WORD_BYTES_MAX: usize = 32;
