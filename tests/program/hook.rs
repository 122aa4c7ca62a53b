//! A webhook of somebody else's, as notices meet it.

use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A webhook that keeps what it is sent.
pub(crate) struct Hook {
    pub(crate) url: String,
    pub(crate) requests: Arc<Mutex<Vec<(String, String)>>>,
}

impl Hook {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keepalive", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<_>>> = Arc::default();
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = Vec::new();
                let mut chunk = [0; 4096];
                // The head says how long the body is.
                let whole = loop {
                    let read = stream.read(&mut chunk).await.unwrap_or(0);
                    text.extend_from_slice(&chunk[..read]);
                    let so_far = String::from_utf8_lossy(&text).into_owned();
                    let Some((head, body)) = so_far.split_once("\r\n\r\n") else {
                        assert!(read > 0, "a request breaks off: {so_far}");
                        continue;
                    };
                    let lines = head.lines().filter_map(|line| line.split_once(": "));
                    let length =
                        lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
                    let length: usize =
                        length.map(|(_, value)| value.parse::<usize>().unwrap()).sum();
                    if body.len() >= length || read == 0 {
                        break (head.to_owned(), body.to_owned());
                    }
                };
                kept.lock().unwrap().push(whole);
                let _ =
                    stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
            }
        });
        Self { url, requests }
    }

    pub(crate) fn bodies(&self) -> Vec<serde_json::Value> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect()
    }
}
