//! The mailbox as a page: a list, and each mail by its number. No scripts.

use super::{Mail, Shared};
use crate::demo::http::Reply;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue},
};
use std::fmt::Write;

pub(super) fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Reply> {
    let path = request.uri().path().trim_matches('/');
    if path.is_empty() {
        return page(StatusCode::OK, &list(shared));
    }
    let number = path.parse::<usize>().ok();
    let mails = shared.mails();
    match mails.iter().find(|mail| Some(mail.number) == number) {
        Some(mail) => page(StatusCode::OK, &single(mail)),
        None => page(StatusCode::NOT_FOUND, "<p>There is no such mail. <a href=\"/\">All</a></p>"),
    }
}

fn list(shared: &Shared) -> String {
    let mails = shared.mails();
    if mails.is_empty() {
        return "<h1>Mailbox</h1><p>No mail yet. Nobody needs to act.</p>".to_owned();
    }
    let mut body = "<h1>Mailbox</h1><table><tr><th>at<th>to<th>subject</tr>".to_owned();
    for mail in mails.iter().rev() {
        let subject = if mail.subject.is_empty() { "(no subject)" } else { &mail.subject };
        // Writing to a string does not fail.
        let _ = write!(
            body,
            "<tr><td>{:.0} s<td>{}<td><a href=\"/{}\">{}</a></tr>",
            mail.received_at.as_secs_f64(),
            escape(&mail.to.join(", ")),
            mail.number,
            escape(subject),
        );
    }
    body + "</table>"
}

fn single(mail: &Mail) -> String {
    let html = mail.html.as_ref().map_or_else(String::new, |html| {
        // Without `allow-scripts` and `allow-same-origin` nothing in there can run or see this page.
        format!("<iframe sandbox title=\"HTML part\" srcdoc=\"{}\"></iframe>", escape(html))
    });
    format!(
        "<p><a href=\"/\">All mails</a></p><h1>{}</h1><p>From {} to {}</p>{html}<pre>{}</pre>",
        escape(&mail.subject),
        escape(&mail.from),
        escape(&mail.to.join(", ")),
        escape(&mail.text),
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            plain => escaped.push(plain),
        }
    }
    escaped
}

fn page(status: StatusCode, body: &str) -> Response<Reply> {
    let head = concat!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">",
        "<meta name=\"viewport\" content=\"width=device-width\">",
        "<meta name=\"color-scheme\" content=\"light dark\"><title>Demo mailbox</title>",
        "<style>body{font:16px system-ui;max-width:60rem;margin:1rem auto;padding:0 1rem}",
        "td,th{text-align:left;padding:.3rem 1rem .3rem 0;vertical-align:top}",
        "pre{white-space:pre-wrap;overflow-wrap:anywhere}",
        "iframe{width:100%;height:28rem;border:1px solid;background:#fff}</style>",
    );
    let mut page = Response::new(Reply::whole(format!("{head}{body}")));
    *page.status_mut() = status;
    let headers = page.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn nothing_in_a_mail_becomes_markup_of_the_page() {
        let hostile = "\"><script>alert(1)</script>";
        let mail = Mail {
            number: 1,
            from: hostile.to_owned(),
            to: vec![hostile.to_owned()],
            subject: hostile.to_owned(),
            text: hostile.to_owned(),
            html: Some(hostile.to_owned()),
            raw: String::new(),
            received_at: Duration::ZERO,
        };
        let page = single(&mail);
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("srcdoc=\"\""), "{page}");
        assert!(page.contains("iframe sandbox "), "{page}");
    }
}
