"""Every wrong turn that an owner can take on the way back: each has a page of its own, and changes nothing."""

import re

from owner import Owner
from world import SCOPES, Broken, until

REACHED = re.compile(r'^oauth_keepalive_reconnects_total\{result="(\w+)"\} (\d+)$', re.MULTILINE)


def take_all(story, account, other, dropped):
    """All of them on the way of `account`, which is held, `other` being the wrong one and `dropped` one that the
    publisher switches off; then the right way after all. Answers how many there were."""
    turns = Turns(story, account, other, dropped)
    for turn in (
        turns.denied,
        turns.another_account,
        turns.fewer_scopes,
        turns.provider_trouble,
        turns.brought_back_twice,
        turns.another_browser,
        turns.nobody_was_sent_away,
        turns.an_old_link,
        turns.an_altered_link,
        turns.an_account_that_was_switched_off,
    ):
        turns.take(turn)
    turns.all_pages_are_different()
    turns.the_right_way_after_all()
    return len(turns.pages)


class Turns:
    def __init__(self, story, account, other, dropped):
        self.story, self.account, self.other, self.dropped = story, account, other, dropped
        self.sidecar, self.provider, self.store = story.sidecar, story.provider, story.store
        self.link = self.sidecar.link(account)
        self.owner = Owner(story.browser, story.pictures, phone=True)
        self.pages = {}

    def take(self, turn):
        """A turn, and the proof that everything is as it was."""
        before, counted = self.everything(), self.counts()
        expected, status, shown = turn()
        if (shown.id, shown.status) != (expected, status):
            raise Broken(f"{turn.__name__}: {shown.status} {shown.id}, expected {status} {expected}: {shown.text}")
        if "Nothing was changed" not in shown.text:
            raise Broken(f"{turn.__name__}: the page does not say that nothing was changed: {shown.text}")
        self.pages[expected] = shown
        counted[expected] = counted.get(expected, 0) + 1
        until(f"{expected} is counted, and nothing else", lambda: self.counts() == counted, self.sidecar.log)
        # What a consent bought is settled a moment after the page was shown.
        settled = lambda: self.sidecar.metric("journal_entries") == 0
        until("nothing is left in the journal", settled, self.sidecar.log)
        after = self.everything()
        if after != before:
            raise Broken(f"{turn.__name__} changed something: {before} became {after}")

    def everything(self):
        """What a wrong turn must not change: both rows with every column, gates, checks and mails."""
        return {
            "rows": [self.store.row(one) for one in (self.account, self.other)],
            "gates": [self.sidecar.gate(one) for one in (self.account, self.other)],
            "moves": len(self.sidecar.events.heard),
            "checks": len(self.provider.log(what="publish_check")),
            "mails": len(self.story.mail_server.mails()),
        }

    def counts(self):
        found = REACHED.findall(self.sidecar.metrics())
        return {result: int(count) for result, count in found if count != "0"}

    def denied(self):
        self.owner.open(self.link)
        self.owner.go()
        return "denied", 403, self.seen(self.owner.deny())

    def another_account(self):
        """Signed in to another one; from here on by the button that the page before offered."""
        self.owner.go()
        return "other_account", 403, self.seen(self.owner.allow(self.other))

    def fewer_scopes(self):
        self.owner.go()
        shown = self.seen(self.owner.allow(self.account, without=[SCOPES[1]]))
        if SCOPES[1] not in shown.text:
            raise Broken(f"the page does not name what is missing: {shown.text}")
        return "fewer_scopes", 403, shown

    def provider_trouble(self):
        self.owner.go()
        self.provider.order("fail_next", account=self.account, status=503)
        return "provider_trouble", 502, self.seen(self.owner.allow(self.account))

    def brought_back_twice(self):
        """The address of the last way back once more, with a code that was never spent."""
        return "replayed", 409, self.seen(self.owner.open(self.owner.came_back_to()))

    def another_browser(self):
        """Somebody else opens the address that the owner's browser was sent to."""
        self.owner.open(self.link)
        self.owner.go()
        back = self.owner.agreed_without_going_back(self.account)
        stranger = Owner(self.story.browser, self.story.pictures)
        return "other_browser", 403, self.seen(stranger.open(back), stranger)

    def nobody_was_sent_away(self):
        return "wrong_state", 400, self.seen(self.owner.open(f"{self.sidecar.callback}?code=x&state=invented.x"))

    def an_old_link(self):
        order = {"state": str(self.sidecar.state), "base": self.sidecar.base, "account": self.account}
        link = self.provider.order("old_link", **order)
        return "link_ended", 410, self.seen(self.owner.open(link))

    def an_altered_link(self):
        return "link_altered", 400, self.seen(self.owner.open(self.link[:-1]))

    def an_account_that_was_switched_off(self):
        """The publisher has dropped it since the link was made."""
        link = self.sidecar.link(self.dropped)
        self.store.execute("UPDATE accounts SET enabled = 0 WHERE account = ?", self.dropped)
        before = self.store.row(self.dropped)
        shown = self.seen(self.owner.open(link))
        if self.store.row(self.dropped) != before:
            raise Broken("a look at the page of an account that was switched off changed its row")
        return "unknown_account", 404, shown

    def seen(self, shown, owner=None):
        (owner or self.owner).picture(f"wrong-{shown.id}")
        return shown

    def all_pages_are_different(self):
        titles = {shown.title for shown in self.pages.values()}
        texts = {shown.text for shown in self.pages.values()}
        if not len(titles) == len(texts) == len(self.pages):
            raise Broken(f"{len(self.pages)} wrong turns have {len(titles)} titles and {len(texts)} texts")

    def the_right_way_after_all(self):
        """None of it has spent the link."""
        self.owner.open(self.link)
        self.owner.go()
        done = self.owner.allow(self.account)
        if (done.id, done.status) != ("connected", 200):
            raise Broken(f"after every wrong turn the right way is barred: {done.text}")
        until(f"{self.account} is open", lambda: self.sidecar.gate(self.account)["gate"] == "open", self.sidecar.log)
        if not self.provider.accepts(self.store.row(self.account)):
            raise Broken("the store does not hold what the provider honours")
