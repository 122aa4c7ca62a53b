//! Keeps social-media OAuth tokens alive beside a publisher that already exists.
//!
//! This page is the map of the code. What the program does for its users stands in `README.md`, why it is
//! built this way in `docs/decisions.md`.
//!
//! # Bird's-eye view
//!
//! A publisher keeps tokens in a **store** of its own. This program reads the store, decides for each
//! account when its token must be renewed, asks the **provider** for a new one, and puts it back. What it must
//! remember to lose nothing lies in a **state** of ours. On the way it counts, and tells people.
//!
//! ```text
//!   store ──loader──▶ ┌─────────── keeper ───────────┐ ──snapshot──▶ metrics, server
//!                     │ core::fleet: told what       │
//!   reports ────────▶ │ happened, answers what to do │ ──notices────▶ clerk ─▶ state ─▶ delivery
//!                     └──────────────────────────────┘
//!                          │ refresh           ▲ finished
//!                          ▼                   │
//!                       refresh ─▶ state (journal), http_client (provider), stores (save)
//! ```
//!
//! The core is pure: it is told the time and what happened, and answers what to do. Around it are thin
//! shells that each do one kind of I/O. A provider is data; a store is one file behind one small trait.
//!
//! # Code map
//!
//! A newcomer reads [`core::decide`], [`core::fleet`], [`keeper`] and [`refresh`], in this order; that is all
//! of the idea.
//!
//! - [`core`]: accounts, causes, the policy ([`core::decide`]), when a token is due ([`core::schedule`]) and when
//!   its connection ends ([`core::second_clock`]), what time it is ([`core::timeline`], by [`core::witness`]), what
//!   is wrong and why ([`core::diagnose`], from [`core::history`]), what can become of an owner who follows a link
//!   ([`core::connecting`]), whose trouble it is when many fail
//!   ([`core::correlate`]), who must hear of it ([`core::notices`]), whether a publisher may publish ([`core::gate`]), and the fleet that dispatches
//!   ([`core::fleet`]). **Invariant:** no I/O, no clock, no randomness, no async, no token; therefore nothing
//!   in it can fail.
//! - [`oauth`]: token requests and answers as values. **Invariant:** it talks to nobody.
//! - [`providers`]: the catalogue, one data file each, those that a user describes, and the one interpreter of such
//!   files. **Invariant:** no code knows the name of a provider.
//! - [`stores`]: the publisher's tokens: YAML and JSON files, tables in SQLite, PostgreSQL, MySQL and
//!   MariaDB, Redis hashes. **Invariant:** a save is
//!   compare-and-set on the token, and nothing but token and status columns is written.
//! - [`state`]: what we must remember: journal, leases, memory and history of accounts, incidents, outbox; in SQLite or
//!   PostgreSQL. **Invariant:** what is answered is durable; no token in it is readable without the key.
//!   [`postgres_tls`]: TLS for connections to PostgreSQL. [`postgres_save`]: a save that the state carries out
//!   for a store in the same database.
//! - [`http_client`]: one outgoing request, bounded in every way. [`secrets`]: where secrets come from.
//!   [`clock`]: the only reader of the clock. [`logs`]: one line an event; [`terminal`]: width, colour and progress, where
//!   there is one.
//! - [`refresh`]: one refresh, in the order that loses nothing. **Invariant:** a received token is in the
//!   journal before anything else looks at it, and nothing that fails afterwards discards it.
//! - [`loader`]: reads the store and tells the keeper. [`keeper`]: drives the fleet and performs its effects.
//!   **Invariant:** it is the one writer of accounts, and a call on the wire is never dropped. [`clerk`]:
//!   writes down what the fleet decided must outlive the process.
//! - [`connect`]: an owner connects an account again by one link. **Invariant:** a link is for one account, ends, and
//!   works once; whatever goes wrong on its way changes nothing.
//! - [`inbox`]: what providers and publishers announce under a signature. **Invariant:** it is answered when it is
//!   written down, and every replica hears it.
//! - [`hooks`]: tells publishers of gates that moved. **Invariant:** nobody waits for it.
//! - [`observe`]: the publisher's logs and tables, where it does not report itself, and our own check now and then.
//!   **Invariant:** what was handed over is remembered, and nothing before it was.
//! - [`replicas`]: shares the accounts with other processes on the same state. **Invariant:** what it told the
//!   keeper to hold ends on our own clock before anybody else may take it.
//! - [`report`]: for each event one log line, one count, one broadcast. [`metrics`]: what `/metrics` shows.
//!   [`server`]: metrics, status page, the publisher's API, webhooks, the pages behind links. [`delivery`]: mail and
//!   requests to webhooks. **Invariant:** they are handed snapshots and notices, which have no field that could hold a
//!   token; the one request that asks for an access token is handed it alone, and is switched on for itself.
//! - [`config`]: a file becomes checked settings; each part owns the type of its own. [`app`]: wires all
//!   parts. [`cli`]: one file per command. **Invariant:** only these three know all others.
//! - [`demo`]: a provider, a publisher and a mailbox on which the real program is shown and tested.
//!   **Invariant:** it starts the program as `run` does and knows nothing of its inside.
//!
//! # What is deliberately absent
//!
//! - **Tokens in memory.** The fleet holds fingerprints and instants. A token is read from the store when
//!   it is used, and wiped after the call; one that the journal does not take is held, and lies sealed in the spill,
//!   until journal or store does.
//! - **Locks across an await**, and any second writer of an account.
//! - **A refresh token that another row's account has spent**: each intent to spend one is the journal's only one, and who
//!   spent it is asked before.
//! - **Retries in the HTTP client**, redirects, cookies, proxies from the environment: who repeats a request
//!   that may have spent a token decides that knowingly, in [`core::decide`].
//! - **Constants for the life of a token.** Every due instant and margin is a share of its own declared life.
//! - **Calls during a scrape or for a page.** What is shown was known before somebody asked.
//! - **JavaScript.** What a page can do it does in plain HTML.
//! - **Coordination of our own making** between processes: leases in the state's database do it.
//!
//! # Cross-cutting concerns
//!
//! - **Time** is whole seconds and a parameter. It does not follow the wall clock's steps until a provider
//!   confirms them ([`core::timeline`]).
//! - **Secrecy by type.** A [`core::Secret`] prints as nothing and is reached by one searchable word,
//!   `expose`. Errors name a place and a remedy, never a stored value, a URL query or an answer's body.
//! - **Errors** have one type per shell, whose variants differ in the reaction they demand. Commands turn
//!   them into sentences and [`cli::Exit`] codes; only `main` ends the process.
//! - **Limits.** Every queue, body, retry, loop and label set has a named constant as its bound.
//! - **Stopping** refuses new refreshes, waits for calls in flight and for their tokens to be saved, and then
//!   closes the listeners.
//! - **Tests.** The core has tables beside its code; every store passes one contract suite; the whole program
//!   runs against the misbehaving provider of [`demo`]. `tests/crash` kills it at every system call around a
//!   rotation; `tests/soak` runs fleets under faults and kills;
//!   `tests/oauth_servers` renews at servers that others wrote.
#![forbid(unsafe_code)]

pub mod core;

pub mod oauth;
pub mod postgres_save;
pub mod postgres_tls;
pub mod providers;
pub mod stores;

pub mod state;

pub mod http_client;

pub mod clock;
pub mod logs;
pub mod secrets;
pub mod terminal;

pub mod refresh;

pub mod clerk;
pub mod connect;
pub mod hooks;
pub mod inbox;
pub mod keeper;
pub mod loader;
pub mod replicas;

pub mod delivery;
pub mod metrics;
pub mod observe;
pub mod report;
pub mod server;

pub mod config;

pub mod app;
pub mod cli;

pub mod demo;
