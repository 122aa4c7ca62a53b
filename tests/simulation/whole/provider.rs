//! The providers, and the way to them. What becomes of a request once it has left depends on no process.

use super::{
    faults::Fault,
    laws, nature,
    replica::{APPS, Process},
    truth::{MINUTE, Maker, Millis, SECOND, read},
    world::{Outage, Peer, Truth, World},
};
use oauth_keepalive::{
    core::Secret,
    oauth::{Answer, Body, Exchange, Request, Trouble},
    providers::JUNK_MARK,
    refresh::Transport,
    state::OpenEntry,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// The way to the providers, as one of our processes has it.
pub(crate) struct Wire(pub(crate) Arc<Process>);

/// From asking for a request to when it is certainly over.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A retired token that comes back this soon lost a race; later it is theft and ends the grant.
const GRACE: Millis = 30 * SECOND;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    NeverSent,
    TooMany(Millis),
    BrokenBefore,
    BrokenAfter,
    LostBefore,
    LostAfter,
    Garbled,
}

/// What a provider answers, before anything happens to the answer.
struct Said {
    status: u16,
    body: String,
    retry_after: Option<Millis>,
    minted: Option<usize>,
}

enum Asked {
    About,
    Refresh(usize, usize),
    Check(usize, usize),
}

impl Transport for Wire {
    async fn send(&self, app: &str, request: Request) -> Exchange {
        match asked(&request) {
            Asked::About => self.question(app).await,
            Asked::Refresh(who, number) => self.refresh(who, number).await,
            Asked::Check(who, number) => self.check(who, number).await,
        }
    }
}

impl Wire {
    async fn refresh(&self, who: usize, number: usize) -> Exchange {
        let world = &self.0.world;
        self.0.lives().await;
        let id = world.truth().players[who].id.clone();
        let open = world.auditor.open_entry(&id).await.expect("nothing is in its way");
        let Some(answer) = self.leave(who, number, open.as_ref()) else {
            return self.never_sent(who).await;
        };
        let exchange = match tokio::time::timeout(DEADLINE, answer).await {
            Ok(Ok(exchange)) => exchange,
            Ok(Err(_)) => Exchange::Lost(Trouble::Broken),
            Err(_) => {
                // Nobody waits for it any more: what is on its way back arrives at a closed door.
                world.truth().players[who].in_flight.retain(|life| *life != self.0.life);
                Exchange::Lost(Trouble::Deadline)
            }
        };
        self.0.pass().await;
        laws::heard(&mut world.truth(), &self.0, who, number, &exchange);
        exchange
    }

    /// Sends it on its way; `None` when it never leaves.
    fn leave(
        &self,
        who: usize,
        number: usize,
        open: Option<&OpenEntry>,
    ) -> Option<oneshot::Receiver<Exchange>> {
        let world = &self.0.world;
        let mut truth = world.truth();
        laws::sends(&mut truth, &self.0, &world.maker, who, number, open);
        let fate = fate(&mut truth, self.0.replica);
        let name = self.0.name();
        truth.note(Some(who), || format!("{name} presents {number}: {fate:?}"));
        truth.requests += 1;
        if fate == Fate::NeverSent {
            return None;
        }
        let player = &mut truth.players[who];
        player.in_flight.push(self.0.life);
        player.tokens[number].presented += 1;
        nature::beside_ours(world, &mut truth, who);
        let (answered, answer) = oneshot::channel();
        tokio::spawn(journey(Arc::clone(&self.0), who, number, fate, answered));
        Some(answer)
    }

    async fn never_sent(&self, who: usize) -> Exchange {
        let delay = self.0.world.truth().io.between(0, 3 * SECOND);
        self.0.world.sleep(delay).await;
        self.0.pass().await;
        let mut truth = self.0.world.truth();
        laws::never_left(&mut truth, &self.0, who);
        Exchange::NotSent(Trouble::Connect)
    }

    /// What the provider says when it is asked about an app.
    async fn question(&self, app: &str) -> Exchange {
        let world = &self.0.world;
        let app = APPS.iter().position(|name| *name == app).expect("one of the two");
        let (delay, exchange) = {
            let mut truth = world.truth();
            let name = self.0.name();
            truth.note(None, || format!("{name} asks about app {app}"));
            laws::asks(&mut truth, &self.0, app);
            let is_cut = truth.is_cut(self.0.replica, Peer::Provider);
            let is_down = truth.provider_down.0 > truth.now;
            let exchange = match () {
                () if is_cut => Exchange::NotSent(Trouble::Connect),
                () if is_down => answered(world, 503, "{}", None),
                () if truth.app_refused_until[app] > truth.now => {
                    truth.app_questions[app] += 1;
                    answered(world, 401, r#"{"error":"invalid_client"}"#, None)
                }
                () => answered(world, 400, r#"{"error":"invalid_grant"}"#, None),
            };
            (truth.io.between(20, 400), exchange)
        };
        world.sleep(delay).await;
        self.0.pass().await;
        world.truth().asking[app] = None;
        exchange
    }

    async fn check(&self, who: usize, number: usize) -> Exchange {
        let world = &self.0.world;
        let (delay, exchange) = {
            let mut truth = world.truth();
            let is_cut = truth.is_cut(self.0.replica, Peer::Provider);
            let is_down = truth.provider_down.0 > truth.now;
            let exchange = match () {
                () if is_cut => Exchange::NotSent(Trouble::Connect),
                () if is_down => answered(world, 503, "{}", None),
                () if truth.players[who].accepts(number, truth.now) => {
                    let body = format!(
                        r#"{{"data":{{"user":{{"open_id":"open-{who}"}}}},"error":{{"code":"ok"}}}}"#
                    );
                    answered(world, 200, &body, None)
                }
                () => answered(world, 401, r#"{"error":{"code":"access_token_invalid"}}"#, None),
            };
            (truth.io.between(20, 400), exchange)
        };
        world.sleep(delay).await;
        self.0.pass().await;
        exchange
    }
}

/// What becomes of a request of `process` that has left it.
async fn journey(
    process: Arc<Process>,
    who: usize,
    number: usize,
    fate: Fate,
    answered_to: oneshot::Sender<Exchange>,
) {
    let world = &process.world;
    let (there, back) = {
        let mut truth = world.truth();
        let late = truth.faults.strikes(Fault::LateAnswer, 100);
        let die = truth.faults.die(Fault::LateAnswer);
        let back = if late { die.between(3 * SECOND, 12 * SECOND) } else { die.between(5, 300) };
        (truth.io.between(5, 400), back)
    };
    world.sleep(there).await;
    let said = {
        let mut truth = world.truth();
        let said = match fate {
            Fate::LostBefore => None,
            _ => Some(say(&mut truth, who, number, fate)),
        };
        if let Some(said) = &said {
            truth
                .note(Some(who), || format!("the provider says {} {:?}", said.status, said.minted));
        }
        said
    };
    world.sleep(back).await;
    let minted = said.as_ref().and_then(|said| said.minted);
    let arrives =
        !matches!(fate, Fate::LostBefore | Fate::LostAfter | Fate::BrokenAfter | Fate::Garbled);
    let exchange = match (fate, said) {
        (Fate::BrokenAfter, _) => Some(answered(world, 502, "<html>Bad Gateway</html>", None)),
        (Fate::Garbled, _) => {
            Some(answered(world, 200, "<html>Sign in to the network</html>", None))
        }
        (_, Some(said)) if arrives => {
            Some(answered(world, said.status, &said.body, said.retry_after))
        }
        _ => None,
    };
    if exchange.is_none() {
        let silence = world.truth().io.between(0, 9 * SECOND);
        world.sleep(silence).await;
    }
    let mut truth = world.truth();
    // They come back in any order, but there is one at most.
    truth.players[who].in_flight.retain(|life| *life != process.life);
    let heard = exchange.is_some_and(|exchange| {
        !process.is_dead() && answered_to.send(exchange).is_ok() && arrives
    });
    let Some(minted) = minted else { return };
    let token = &mut truth.players[who].tokens[minted];
    token.reached = heard;
    token.ahead = process.skew();
    token.destroyed = !heard;
    if heard {
        truth.hands.push((process.life, who, minted));
    } else {
        truth.note(Some(who), || format!("the answer with {minted} reaches nobody"));
    }
}

fn fate(truth: &mut Truth, replica: usize) -> Fate {
    let cut = truth.is_cut(replica, Peer::Provider);
    let (down_until, outage) = truth.provider_down;
    if cut {
        return Fate::NeverSent;
    }
    if down_until > truth.now {
        return match outage {
            Outage::Unreachable => Fate::NeverSent,
            Outage::Broken => Fate::BrokenBefore,
            Outage::Busy => Fate::TooMany(truth.io.between(30, 600) * SECOND),
            Outage::Silent => Fate::LostBefore,
        };
    }
    let faults = &mut truth.faults;
    match () {
        () if faults.strikes(Fault::NeverSent, 80) => Fate::NeverSent,
        () if faults.strikes(Fault::TooMany, 100) => {
            Fate::TooMany(faults.die(Fault::TooMany).between(1, 600) * SECOND)
        }
        () if faults.strikes(Fault::BrokenBefore, 40) => Fate::BrokenBefore,
        () if faults.strikes(Fault::BrokenAfter, 20) => Fate::BrokenAfter,
        () if faults.strikes(Fault::LostBefore, 40) => Fate::LostBefore,
        () if faults.strikes(Fault::LostAfter, 20) => Fate::LostAfter,
        () if faults.strikes(Fault::Garbled, 10) => Fate::Garbled,
        () => Fate::Arrives,
    }
}

fn say(truth: &mut Truth, who: usize, number: usize, fate: Fate) -> Said {
    let plain = |status, body: &str, retry_after| Said {
        status,
        body: body.to_owned(),
        retry_after,
        minted: None,
    };
    let app = truth.players[who].app;
    match fate {
        Fate::TooMany(away) => return plain(429, "{}", Some(away)),
        Fate::BrokenBefore => return plain(503, "{}", None),
        _ => {}
    }
    if truth.app_refused_until[app] > truth.now {
        truth.app_refusals[app] += 1;
        return plain(401, r#"{"error":"invalid_client"}"#, None);
    }
    let Some(minted) = truth.renew(who, number, Maker::Us) else {
        return plain(400, r#"{"error":"invalid_grant"}"#, None);
    };
    let player = &mut truth.players[who];
    player.refreshes += 1;
    let (access, refresh) = player.text_of(minted);
    let life = player.life / SECOND;
    let body = format!(
        r#"{{"access_token":"{access}","expires_in":{life},"open_id":"open-{who}","refresh_token":"{refresh}","token_type":"Bearer"}}"#
    );
    Said { status: 200, body, retry_after: None, minted: Some(minted) }
}

impl Truth {
    /// What the provider makes of a refresh token; the number of its successor.
    pub(crate) fn renew(&mut self, who: usize, number: usize, maker: Maker) -> Option<usize> {
        let now = self.now;
        let player = &mut self.players[who];
        if number != player.current() {
            let retired_at = player.tokens[number + 1].at;
            let of_this_grant =
                player.tokens[number].consent == player.tokens[player.current()].consent;
            if of_this_grant && now - retired_at > GRACE {
                player.alive = false;
                player.trouble_at = now;
                self.note(Some(who), || format!("{number} was retired: the grant ends"));
            }
            return None;
        }
        if !player.alive {
            return None;
        }
        Some(player.mint(maker, now))
    }
}

impl super::truth::Player {
    /// Whether the provider's API takes the access token.
    pub(crate) fn accepts(&self, number: usize, now: Millis) -> bool {
        let token = &self.tokens[number];
        let newest = number == self.current();
        let same_grant = token.consent == self.tokens[self.current()].consent;
        self.alive && same_grant && now < token.at + self.life && !(newest && self.access_dead)
    }
}

fn answered(world: &World, status: u16, body: &str, retry_after: Option<Millis>) -> Exchange {
    Exchange::Answered(Answer {
        status,
        retry_after: retry_after.map(|away| Duration::from_secs((away / SECOND) as u64)),
        date: Some(world.true_time()),
        bearer_error: None,
        body: Secret::new(body.to_owned()),
    })
}

fn asked(request: &Request) -> Asked {
    if let Body::Form(pairs) = &request.body
        && let Some((_, token)) = pairs.iter().find(|(name, _)| name == "refresh_token")
    {
        if token.expose().contains(JUNK_MARK) {
            return Asked::About;
        }
        let (who, number) = read(token.expose());
        return Asked::Refresh(who, number);
    }
    let (_, bearer) = request
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        .expect("a check carries its token");
    let (who, number) = read(bearer.expose());
    Asked::Check(who, number)
}

/// The longest that a provider asks us to stay away.
pub(crate) const AWAY_MAX: Millis = 10 * MINUTE;
