//! Keeps social-media OAuth tokens alive beside a publisher.
#![forbid(unsafe_code)]

pub mod core;

pub mod app;
pub mod clerk;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod demo;
pub mod http_client;
pub mod keeper;
pub mod loader;
pub mod metrics;
pub mod oauth;
pub mod postgres_tls;
pub mod providers;
pub mod refresh;
pub mod report;
pub mod secrets;
pub mod server;
pub mod state;
pub mod stores;
