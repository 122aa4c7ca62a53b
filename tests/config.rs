//! The configuration file as a person meets it: what a right one becomes, and what a wrong one is told.
//!
//! To add a wrong file, put it into `tests/config/` as `invalid-*.yaml`, run with `UPDATE_EXPECT=1`, and
//! read the message that was written beside it as the person who made that mistake would.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare itself has failed")]

use oauth_keepalive::{
    app,
    config::{self, Loaded, Problems},
    core::Secret,
    observe,
    providers::{self, Endpoints, Environment},
    secrets::SecretRef,
    server::publisher::Right,
    state::postgres::Tls,
    stores::{self, sqlite},
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PROVIDERS: [&str; 3] = ["oauth2", "tiktok", "x"];

const MINIMAL: &str = "\
store: {kind: file, path: tokens.yaml}
apps:
  - {name: main, provider: tiktok, client_id: invented-id, client_secret_file: secret}
";

#[test]
fn every_wrong_file_is_told_what_to_do() {
    let mut names: Vec<_> = fs::read_dir("tests/config")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 30, "{} wrong files", names.len());
    let mut differing = Vec::new();
    for path in names {
        let told = match config::load_knowing(&path, &PROVIDERS) {
            Ok(_) => panic!("{} was accepted", path.display()),
            Err(problems) => {
                told_well(&path, &problems);
                format!("{problems}\n")
            }
        };
        let expectation = path.with_extension("txt");
        if env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&expectation, &told).unwrap();
        }
        let expected = fs::read_to_string(&expectation).unwrap_or_default();
        if told != expected {
            differing.push(format!("{}:\n{told}--- expected:\n{expected}", path.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// What holds for every message, whatever it says.
fn told_well(path: &Path, problems: &Problems) {
    let name = path.display().to_string();
    assert!(!problems.0.is_empty(), "{name}");
    for problem in &problems.0 {
        let sentence = problem.sentence();
        assert!(problem.place.line.is_some(), "no line: {sentence}");
        let folders = ["tests/config/providers/", "tests/config/web/"];
        let named = folders.iter().any(|folder| sentence.starts_with(folder));
        assert!(named || sentence.starts_with(&format!("{name}:")), "no file: {sentence}");
        assert!(problem.remedy.len() > 5, "no remedy: {sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
        let text = problem.to_string();
        for marker in ["hunter2", "someone@"] {
            assert!(!text.contains(marker), "{name} shows a secret or an address:\n{text}");
        }
    }
}

#[test]
fn a_minimal_file_gets_every_default_and_no_warning() {
    let directory = folder(&[("secret", "invented\n")]);
    let Loaded { settings, warnings } = load(&directory, MINIMAL).unwrap();
    assert_eq!(warnings, []);
    let app = &settings.apps[0];
    assert_eq!((&*app.name, &*app.provider, &*app.client_id), ("main", "tiktok", "invented-id"));
    assert_eq!(app.client_secrets, [SecretRef::File(directory.path().join("secret"))]);
    assert_eq!(app.endpoints, Endpoints::default());
    assert!(app.default_for_provider, "the only app of its provider");
    let path = directory.path().join("tokens.yaml");
    assert_eq!(stores::place_of(&settings.store), path.display().to_string());
    assert_eq!(settings.state.directory, directory.path().join("state"));
    assert_eq!(settings.http.total_deadline, Duration::from_secs(10));
    assert!(settings.delivery.smtp.is_none());
    assert!(settings.server.publisher.is_none());
}

#[test]
fn the_example_loads_as_it_is_and_says_what_the_code_says() {
    let directory = folder(&[("secrets/tiktok", "invented\n")]);
    let example = fs::read_to_string("config.example.yaml").unwrap();
    let example = load(&directory, &example).unwrap();
    assert_eq!(example.warnings, []);
    let bare = load(
        &directory,
        "store: {kind: sqlite, path: ./tokens.db}\n\
         apps: [{name: tiktok, provider: tiktok, client_id: my-client-key, \
         client_secret_file: ./secrets/tiktok}]\n",
    )
    .unwrap();
    assert_eq!(format!("{:#?}", example.settings), format!("{:#?}", bare.settings));
}

/// The examples for the other providers are comments, and must work all the same.
#[test]
fn every_app_that_the_example_suggests_loads_without_a_warning() {
    let example = fs::read_to_string("config.example.yaml").unwrap();
    let (_, suggested) = example.split_once("One for each other provider").unwrap();
    let (suggested, _) = suggested.split_once("\n\n").unwrap();
    let suggested: String =
        suggested.lines().skip(1).map(|line| format!("{}\n", line.replacen("# ", "", 1))).collect();
    let names = ["x", "google", "facebook", "linkedin", "pinterest", "reddit", "snapchat"];
    let mut files = vec![("secrets/tiktok-business".to_owned(), "invented\n")];
    files.extend(names.map(|name| (format!("secrets/{name}"), "invented\n")));
    let files: Vec<_> = files.iter().map(|(name, text)| (&**name, *text)).collect();
    let directory = folder(&files);
    let path = directory.path().join("config.yaml");
    fs::write(&path, format!("store: {{kind: file, path: t.yaml}}\napps:\n{suggested}")).unwrap();
    let Loaded { settings, warnings } = config::load(&path).unwrap();
    assert_eq!(warnings, []);
    let mut used: Vec<_> = settings.apps.iter().map(|app| &*app.provider).collect();
    used.extend(["oauth2", "tiktok"]);
    used.sort_unstable();
    assert_eq!(used, providers::names(), "one for each provider");
}

const MASTODON: &str = "\
name: mastodon
title: Mastodon
docs: https://docs.joinmastodon.example/oauth
renewal: rotating
refresh: {params: {client_id: '{client_id}', refresh_token: '{refresh_token}'}}
errors:
  - {where: token, environment: sandbox, match: {path: error, eq: invalid_grant}, cause: wrong_environment}
  - {where: token, status: [400, 4xx], match: {path: error, re: '^invalid_\\w+$'}, cause: refresh_token_rejected}
errors_like: oauth2
";

#[test]
fn a_described_provider_is_used_like_one_of_ours() {
    let directory = folder(&[("secret", "invented\n"), ("providers/mastodon.yaml", MASTODON)]);
    let text = "\
store: {kind: sqlite, path: t.db, columns: {account: a, provider_name: mastodon, access_token: t, app: b}}
providers: [providers/mastodon.yaml]
apps:
  - name: one
    provider: mastodon
    client_id: a
    client_secret_file: secret
    endpoints: {token: 'https://m.example/t'}
  - name: two
    provider: mastodon
    environment: sandbox
    client_id: b
    client_secret_file: secret
    endpoints: {token: 'https://m.example/t'}
    default: true
";
    let settings = load(&directory, text).unwrap().settings;
    let (one, two) = (&settings.apps[0], &settings.apps[1]);
    let provider = settings.provider_of(one).unwrap();
    assert_eq!((&*provider.title, provider.environment), ("Mastodon", Environment::Production));
    assert_eq!(settings.provider_of(two).unwrap().environment, Environment::Sandbox);
    let apps = app::apps_of(&settings);
    assert_eq!(apps["one"].provider.name, "mastodon");
    assert_eq!(apps["two"].provider.environment, Environment::Sandbox);
    let again = load(&directory, text).unwrap().settings;
    let same = again.provider_of(&again.apps[0]).unwrap();
    assert!(std::ptr::eq(provider, same), "a reload keeps what did not change");
    let renamed = MASTODON.replace("name: mastodon", "name: pixelfed");
    fs::write(directory.path().join("providers/mastodon.yaml"), renamed).unwrap();
    let changed = load(&directory, text).unwrap_err().to_string();
    assert!(changed.contains("unknown provider `mastodon`"), "{changed}");
    assert!(changed.contains("tiktok, x or pixelfed"), "{changed}");
}

#[test]
fn a_described_provider_that_is_wrong_in_any_line_is_told_which() {
    let slips = ["", ":", "\t", "'", "{", "[", ": "];
    for at in (0..=MASTODON.len()).step_by(3) {
        let (before, after) = MASTODON.split_at(at);
        for slip in slips {
            let slipped = format!("{before}{slip}{}", after.get(1..).unwrap_or_default());
            let directory = folder(&[("p.yaml", &slipped)]);
            let text = "store: {kind: file, path: t.yaml}\nproviders: [p.yaml]\n";
            let Err(problems) = load(&directory, text) else { continue };
            for problem in problems.0 {
                let sentence = problem.sentence();
                assert!(sentence.contains("p.yaml:"), "{sentence}\n{slipped}");
                assert!(!sentence.contains('\n') && problem.remedy.len() > 5, "{sentence}");
            }
        }
    }
}

#[test]
fn a_file_from_a_windows_editor_reads_like_any_other() {
    let directory = folder(&[("secret", "invented\n")]);
    let bare = load(&directory, MINIMAL).unwrap().settings;
    let windows = format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n"));
    let windows = load(&directory, &windows).unwrap().settings;
    assert_eq!(format!("{windows:#?}"), format!("{bare:#?}"));
}

#[test]
fn a_key_without_a_value_means_its_default() {
    let directory = folder(&[("secret", "invented\n")]);
    let blank = "\
refresh:
http: {total_deadline: , ca_file: , in_flight_per_app_max: ~}
mail: {enabled: , operator: , owners: null, smtp: {tls: , port: }}
server: {listen: }
metrics:
  # per_account: false
state: {directory: ~}
";
    let bare = load(&directory, MINIMAL).unwrap().settings;
    let blank = load(&directory, &format!("{MINIMAL}{blank}")).unwrap().settings;
    assert_eq!(format!("{blank:#?}"), format!("{bare:#?}"));
}

#[test]
fn a_full_file_becomes_what_it_says() {
    let directory = folder(&[("secret", "invented\n"), ("ca.pem", "x"), ("key", "x")]);
    let text = "\
store:
  kind: sqlite
  path: /srv/publisher/app.db
  poll_every: 1m
  busy_timeout: 2s
  table: social_accounts
  columns:
    account: id
    provider_name: x
    access_token: token
    expires_at: ends
    issued_at: {name: made, unit: text}
    status: {name: state, connected: 1, needs_reconnect: 0}
apps:
  - name: a
    provider: x
    client_id: 7123456789012345678
    client_secret_env: PATH
    scopes: [tweet.read, tweet.write]
    endpoints: {token: 'http://127.0.0.1:9000/token', probe: 'https://api.example.com/me'}
  - {name: b, provider: oauth2, client_id: 007, endpoints: {token: 'https://login.example.com/t'}}
refresh: {due_after: 0.5, backoff_first: 500ms, backoff_max: 1h, assumed_life: 1d, in_flight_max: 8}
http: {ca_file: ca.pem, proxy: 'http://proxy:3128'}
mail:
  enabled: true
  from: Keepalive <keepalive@example.com>
  operator: [ops@example.com]
  owners: [{accounts: x/brand-*, to: someone@example.com}]
  external_url: https://keepalive.example.com/
  smtp: {host: localhost, port: 25, tls: none, username: me, password_file: secret}
server: {listen: '[::1]:0', enable_reload: true}
publisher: {enabled: true, listen: '127.0.0.1:0', clients: [{name: p, secret_file: secret, rights: [report]}]}
metrics: {per_account: false}
state: {directory: /var/lib/keepalive, key_file: key}
";
    let settings = load(&directory, text).unwrap().settings;
    let stores::Settings::Sqlite(store) = &settings.store else { panic!("{:?}", settings.store) };
    assert_eq!(store.path, Path::new("/srv/publisher/app.db"));
    assert_eq!(store.table, "social_accounts");
    assert_eq!(store.columns.provider, sqlite::ProviderColumn::Fixed("x".to_owned()));
    assert_eq!(store.columns.refresh_token, None, "what a column map does not name is not there");
    let ends = store.columns.expires_at.as_ref().unwrap();
    assert_eq!((&*ends.name, ends.unit), ("ends", sqlite::TimeUnit::UnixSeconds));
    assert_eq!(store.columns.issued_at.as_ref().unwrap().unit, sqlite::TimeUnit::Text);
    assert_eq!(store.columns.status.as_ref().unwrap().needs_reconnect, "0");
    assert_eq!(settings.apps[0].client_id, "7123456789012345678", "digit for digit");
    assert_eq!(settings.apps[1].client_id, "007");
    assert_eq!(settings.apps[0].client_secrets, [SecretRef::Env("PATH".to_owned())]);
    assert_eq!(settings.refresh.backoff_first, Duration::from_millis(500));
    assert_eq!(settings.refresh.assumed_life, Duration::from_secs(24 * 60 * 60));
    let mail = &settings.delivery;
    assert_eq!(mail.external_url.as_deref(), Some("https://keepalive.example.com"));
    assert_eq!(mail.owners[0].to, Secret::new("someone@example.com".to_owned()));
    let smtp = mail.smtp.as_ref().unwrap();
    assert_eq!(smtp.login.as_ref().unwrap().0, "me");
    assert_eq!(settings.server.publisher.as_ref().unwrap().clients[0].rights, [Right::Report]);
    assert!(!settings.metrics.per_account);
    assert_eq!(settings.state.key_file, Some(directory.path().join("key")));
    assert!(!format!("{settings:?}").contains("@example.com"), "Debug shows no address");
}

#[test]
fn the_secrets_of_a_rotation_keep_their_order() {
    let directory = folder(&[("new", "invented-new\n"), ("old", "invented-old\n")]);
    let text = "\
store: {kind: file, path: tokens.yaml}
apps:
  - {name: a, provider: tiktok, client_id: a, client_secret_file: [new, old]}
  - {name: b, provider: x, client_id: b, client_secret_env: [PATH]}
";
    let apps = load(&directory, text).unwrap().settings.apps;
    let file = |name: &str| SecretRef::File(directory.path().join(name));
    assert_eq!(apps[0].client_secrets, [file("new"), file("old")]);
    assert_eq!(apps[1].client_secrets, [SecretRef::Env("PATH".to_owned())]);
}

#[test]
fn what_is_observed_becomes_what_it_says() {
    let directory = folder(&[]);
    let text = r"
store: {kind: sqlite, path: publisher.db}
observe:
  logs:
    - {path: a.log, account: /id, provider: /network, status: /code, start: beginning, wrapped: cri}
    - path: /var/log/b.log
      name: second
      format: pattern
      pattern: 'channel (?<account>\S+) (?<status>\d+)'
      provider_name: tiktok
      only: {contains: failed}
  query: {sql: 'SELECT * FROM errors WHERE id > :position', every: 1m, provider_name: x}
  posts: {sql: 'SELECT * FROM posts WHERE due < :until'}
  probe: {enabled: true}
";
    let observe = load(&directory, text).unwrap().settings.observe;
    let [first, second] = &observe.logs[..] else { panic!("{observe:?}") };
    assert_eq!((&*first.name, &first.path), ("a.log", &directory.path().join("a.log")));
    assert_eq!(first.start, observe::Start::Beginning);
    assert_eq!(first.lines.wrapped, observe::Wrapped::Cri);
    assert_eq!(first.lines.status, observe::Status::At("/code".to_owned()));
    assert_eq!((&*second.name, second.start), ("second", observe::Start::End));
    assert_eq!(second.lines.provider, observe::Provider::Fixed("tiktok".to_owned()));
    let groups: Vec<_> = second.lines.names().collect();
    assert_eq!(groups, ["account", "status"], "a pattern names them so unless told otherwise");
    let query = observe.query.unwrap();
    assert_eq!((query.every, query.provider_name.as_deref()), (Duration::from_secs(60), Some("x")));
    assert_eq!(observe.posts.unwrap().window, Duration::from_secs(24 * 60 * 60));
    assert_eq!(observe.probe, Some(Duration::from_secs(6 * 60 * 60)));
}

#[test]
fn state_in_postgres_becomes_what_it_says() {
    let directory = folder(&[("secret", "invented\n"), ("key", "x"), ("ca.pem", "x")]);
    let with = |text: &str| {
        let text = format!(
            "{MINIMAL}state: {{kind: postgres, key_file: key, database: d, user: u, {text}}}\n"
        );
        load(&directory, &text).unwrap().settings.state.postgres.unwrap()
    };
    let least = with("host: db.example.com");
    let default_tls = Tls::Required { ca_file: None };
    assert_eq!((&*least.host, least.port, least.tls), ("db.example.com", 5432, default_tls));
    assert_eq!((&*least.schema, least.password), ("oauth_keepalive", None));
    assert_eq!(least.statement_timeout, Duration::from_secs(5));
    assert_eq!(least.lease, Duration::from_secs(30));
    let full = with(
        "host: '::1', port: 5433, password_file: secret, ca_file: ca.pem, schema: s_1, \
         statement_timeout: 2s, connect_timeout: 500ms, lease: 5s",
    );
    assert_eq!(full.tls, Tls::Required { ca_file: Some(directory.path().join("ca.pem")) });
    assert_eq!(full.password, Some(SecretRef::File(directory.path().join("secret"))));
    assert_eq!((&*full.host, full.port, &*full.schema), ("::1", 5433, "s_1"));
    assert_eq!(full.connect_timeout, Duration::from_millis(500));
    assert_eq!(full.lease, Duration::from_secs(5));
    let socket = with("socket: run");
    assert_eq!(Path::new(&socket.host), directory.path().join("run"));
    assert!(socket.is_socket());
    assert_eq!(with("host: 127.0.0.1, tls: off").tls, Tls::None);
}

#[test]
fn store_and_state_are_one_database_when_server_database_and_user_are_the_same() {
    let directory = folder(&[("secret", "invented\n"), ("key", "x")]);
    let is_one = |store: &str, state: &str| {
        let columns = "{account: a, provider_name: tiktok, access_token: t}";
        let text = format!(
            "store: {{kind: postgres, table: t, columns: {columns}, {store}}}\n\
             state: {{kind: postgres, key_file: key, {state}}}\n"
        );
        load(&directory, &text).unwrap().settings.is_one_database()
    };
    let (tcp, socket) = ("host: h, database: d, user: u", "socket: /run/p, database: d, user: u");
    for (store, state, one) in [
        (tcp, tcp, true),
        (tcp, "host: h, port: 5432, database: d, user: u, schema: elsewhere", true),
        (socket, socket, true),
        (tcp, socket, false),
        (tcp, "host: g, database: d, user: u", false),
        (tcp, "host: h, port: 5433, database: d, user: u", false),
        (tcp, "host: h, database: e, user: u", false),
        (tcp, "host: h, database: d, user: v", false),
    ] {
        assert_eq!(is_one(store, state), one, "{store} / {state}");
    }
    let text = format!("{MINIMAL}state: {{kind: postgres, key_file: key, {tcp}}}\n");
    assert!(!load(&directory, &text).unwrap().settings.is_one_database(), "a file is no database");
}

#[test]
fn dangerous_pairs_are_warned_of() {
    let files = [("secret", "invented\n"), ("state/key", "x")];
    let app = "name: main, provider: tiktok, client_id: invented-id, client_secret_file: secret";
    let cases = [
        ("refresh: {in_flight_max: 64}\nhttp: {in_flight_per_app_max: 2}", "refresh.in_flight_max"),
        ("refresh: {danger: 0.01}", "refresh.danger"),
        ("refresh: {backoff_max: 40m}", "refresh.backoff_max"),
        ("state: {key_file: state/key}", "state.key_file"),
        ("server: {listen: '0.0.0.0:8640', enable_reload: true}", "server.enable_reload"),
        (
            "publisher: {enabled: true, listen: '0.0.0.0:8641', clients: [{name: p, secret_file: secret, rights: [report]}]}",
            "publisher.listen",
        ),
        (
            "mail: {owners: [{accounts: '*', to: a@b.example}, {accounts: x/y, to: c@d.example}]}",
            "mail.owners[1].accounts",
        ),
    ];
    for (text, key) in cases {
        let directory = folder(&files);
        let text = format!("store: {{kind: file, path: t.yaml}}\napps: [{{{app}}}]\n{text}\n");
        let warnings = load(&directory, &text).unwrap().warnings;
        let keys: Vec<_> = warnings.iter().map(|warning| warning.place.key.to_string()).collect();
        assert_eq!(keys, [key], "{text}");
        assert!(warnings[0].sentence().contains(": warning: "), "{}", warnings[0]);
        assert!(warnings[0].place.line.unwrap() >= 3, "{}", warnings[0]);
    }
    let directory = folder(&files);
    let two = "store: {kind: file, path: t.yaml}\napps:\n\
               - {name: a, provider: x, client_id: a}\n- {name: b, provider: x, client_id: b}\n";
    let warnings = load(&directory, two).unwrap().warnings;
    assert!(warnings[0].what.contains("no app is the default of `x`"), "{warnings:?}");
    let slow = "store: {kind: file, path: t.yaml, poll_every: 20m}\n";
    let warnings = load(&directory, slow).unwrap().warnings;
    let keys: Vec<_> = warnings.iter().map(|warning| warning.place.key.to_string()).collect();
    assert_eq!(keys, ["apps", "store.poll_every"]);
}

#[test]
fn a_secret_file_that_everybody_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let directory = folder(&[("secret", "invented\n")]);
    for (mode, warned) in [(0o644, true), (0o640, false), (0o600, false)] {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(directory.path().join("secret"), permissions).unwrap();
        let warnings = load(&directory, MINIMAL).unwrap().warnings;
        assert_eq!(!warnings.is_empty(), warned, "{mode:o}: {warnings:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("long.yaml");
    fs::write(&long, vec![b' '; usize::try_from(config::BYTES_MAX).unwrap() + 1]).unwrap();
    let binary = directory.path().join("binary.yaml");
    fs::write(&binary, b"store:\n  path: \xff\n").unwrap();
    let cases: [(PathBuf, &str); 4] = [
        (directory.path().join("absent.yaml"), "absent.yaml: no such file; correct the path"),
        (
            directory.path().to_owned(),
            ": this is a directory, expected a file; name the file in it",
        ),
        (long, "long.yaml: longer than 1048576 bytes"),
        (binary, "binary.yaml:2: not UTF-8 text; save the file as UTF-8"),
    ];
    for (path, message) in cases {
        let problems = config::load_knowing(&path, &PROVIDERS).unwrap_err();
        assert!(problems.to_string().contains(message), "{problems}");
    }
}

#[test]
fn brackets_without_end_are_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    for bracket in ["[", "{a: ", "- ", "? "] {
        fs::write(&path, bracket.repeat(200_000)).unwrap();
        let started = Instant::now();
        let problems = config::load_knowing(&path, &PROVIDERS).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(60), "{bracket}: {:?}", started.elapsed());
        assert_eq!(problems.0.len(), 1, "{problems}");
    }
}

/// People paste secrets where they do not belong, and mistype around them.
#[test]
fn no_slip_of_the_fingers_makes_a_message_show_a_secret() {
    let directory = folder(&[]);
    let text = "\
store: {kind: file, path: t.yaml, password: hunter2}
apps:
  - name: main
    client_id: id
    client_secret: hunter2
    client_secret_env: hunter2
mail:
  operator: [hunter2@example.com]
  from: 'hunter2'
  smtp: {host: h, username: hunter2, password: \"hunter2\"}
";
    let secret = |at: usize| {
        text.match_indices("hunter2").any(|(from, _)| (from + 1..from + 7).contains(&at))
    };
    for at in (0..text.len()).filter(|at| !secret(*at)) {
        let (before, after) = text.split_at(at);
        let without = after.get(1..).unwrap_or_default();
        let slips = ["", ":", "\n", "\t", "'", "{", "#", ": "];
        let slips = slips.iter().map(|slip| format!("{before}{slip}{after}"));
        for text in slips.chain([format!("{before}{without}")]) {
            if let Err(problems) = load(&directory, &text) {
                assert!(!problems.to_string().contains("hunter2"), "{text}\n---\n{problems}");
            }
        }
    }
}

/// A folder with these files, readable by us alone.
fn folder(files: &[(&str, &str)]) -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    directory
}

fn load(directory: &TempDir, text: &str) -> Result<Loaded, Problems> {
    let path = directory.path().join("config.yaml");
    fs::write(&path, text).unwrap();
    config::load_knowing(&path, &PROVIDERS)
}
