//! The sockets that the configuration asks for, bound before anything is begun.

use crate::{
    config::Settings,
    secrets::SecretRef,
    server::{
        self,
        socket::{Place, Socket},
        web_config::Web,
    },
};
use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};
use tokio::net::TcpListener;

/// All of them, each with what is served there.
pub(super) struct Sockets {
    pub(super) telemetry: Vec<Socket>,
    /// The first of them, with the port that was really bound.
    pub(super) telemetry_at: SocketAddr,
    pub(super) publisher: Option<(Socket, server::publisher::Settings)>,
    pub(super) webhooks: Option<(TcpListener, Option<SecretRef>)>,
    pub(super) connect: Option<TcpListener>,
}

/// Where they are.
pub(super) struct Places {
    pub(super) telemetry: Vec<Place>,
    pub(super) publisher: Option<Place>,
    pub(super) webhooks: Option<SocketAddr>,
    pub(super) connect: Option<SocketAddr>,
}

impl Sockets {
    pub(super) async fn bind(settings: &Settings, web: &Arc<Web>) -> Result<Self, String> {
        let server = &settings.server;
        let first = bind(server.listen).await?;
        let telemetry_at = first.local_addr().map_err(|error| error.to_string())?;
        let mut telemetry = vec![Socket::Web(first, Arc::clone(web))];
        for address in &server.listen_also {
            telemetry.push(Socket::Web(bind(*address).await?, Arc::clone(web)));
        }
        let publisher = match &server.publisher {
            Some(publisher) => {
                let certificate = publisher.certificate.as_ref();
                Some((Socket::bind(&publisher.listen, certificate).await?, publisher.clone()))
            }
            None => None,
        };
        let webhooks = match &server.webhooks {
            Some(webhooks) => Some((bind(webhooks.listen).await?, webhooks.secret.clone())),
            None => None,
        };
        let connect = match &server.connect {
            Some(connect) => Some(bind(connect.listen).await?),
            None => None,
        };
        Ok(Self { telemetry, telemetry_at, publisher, webhooks, connect })
    }

    pub(super) fn places(&self) -> Places {
        let at = |listener: &TcpListener| listener.local_addr().ok();
        Places {
            telemetry: self.telemetry.iter().map(Socket::place).collect(),
            publisher: self.publisher.as_ref().map(|(socket, _)| socket.place()),
            webhooks: self.webhooks.as_ref().and_then(|(listener, _)| at(listener)),
            connect: self.connect.as_ref().and_then(at),
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let bound = match TcpListener::bind(address).await {
        // `[::]` is every address of both families; a machine may have only the older one.
        Err(error)
            if error.kind() == std::io::ErrorKind::Unsupported
                && address.ip() == Ipv6Addr::UNSPECIFIED =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    bound.map_err(|error| {
        format!(
            "cannot listen on {address}: {error}; is another sidecar running, or the port taken?"
        )
    })
}
