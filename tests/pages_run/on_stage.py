"""The demo: what its pages look like, how they are worked without a mouse and without scripts, and that they stay where
they are when they load themselves again."""

from urllib.parse import quote

from eyes import expect, shown
from world import get, get_json, until

# One full turn of the keyboard through the list is less than this.
TABS_MAX = 80
RELOAD_SECONDS = 10


def when_something_is_wrong(base):
    """The demo's own story: an owner takes the consent back, and the publisher runs into it."""

    def somebody():
        listed = get_json(f"{base}/accounts.json")["accounts"]
        hurt = [one for one in listed if one["who_acts"] == "owner" and one["gate"]["gate"] == "held"]
        return [one for one in hurt if one["unauthorized_last_day"] > 0]

    return until("an account of the demo is held and has 401s", somebody)[0]


def in_full_swing(base):
    """Three accounts need their owners and nothing else is wrong: the one of them that was renewed most often."""

    def three():
        answer = get_json(f"{base}/accounts.json?cause=owner")
        is_calm = answer["found"] == 3 and answer["fleet"]["healthy"] == answer["fleet"]["accounts"] - 3
        hurt = [get_json(f"{base}{one['page']}.json") for one in answer["accounts"]] if is_calm else []
        return [one for one in hurt if one["unauthorized_last_day"] > 0 and len(one["tokens"]) > 4]

    return max(until("three accounts of the demo need their owners", three), key=lambda one: len(one["tokens"]))


def looks(eyes, base, hurt):
    pages = {
        "list": "/?refresh=0",
        "account": hurt["page"] + "?refresh=0",
        "app": f"/apps/{quote(hurt['app'])}?refresh=0",
        "provider": f"/providers/{quote(hurt['provider'])}?refresh=0",
    }
    for name, path in pages.items():
        eyes.look(base + path, name)
    eyes.look(f"{base}/accounts/tiktok/nobody", "missing", status=404)
    expect("No account tiktok/nobody" in eyes.page.text(), "an unknown account is not called by its name")
    home = eyes.page.attribute("main a", "href")
    expect(home == "../../", f"the way back from an unknown account leads to {home}")


def what_is_said(eyes, base, hurt):
    """The list says who must act and how, and the account's page and its JSON say the same."""
    page = eyes.page
    page.look(1280, 900)
    page.open(f"{base}/?refresh=0")
    expect(shown(page)[0] == hurt["account"] or len(shown(page)) > 1, "the list is empty")
    verdict = page.text("h1")
    expect("somebody" in verdict, f"the verdict is {verdict!r} while {hurt['account']} needs its owner")
    expect(hurt["next_step"] in page.text(".todos"), "what is to be done does not stand at the top")
    page.open(base + hurt["page"])
    json = get_json(f"{base}{hurt['page']}.json")
    said = page.text("main")
    for words in (hurt["cause"].replace("_", " "), hurt["next_step"], "Gate held", "What happened"):
        expect(words in said, f"{hurt['page']} does not say {words!r}")
    expect(page.evaluate("document.querySelectorAll('svg.course').length") == 1, "the course of the token is not drawn")
    expect(page.evaluate("document.querySelectorAll('svg.hours rect').length") >= 1, "the 401s are not drawn")
    lines = page.texts(".timeline li")
    expect(len(lines) >= len(json["timeline"]) >= 3, f"the timeline has {len(lines)} lines, its JSON {len(json['timeline'])}")


def without_scripts(browser, base, hurt):
    """Filters by typing and clicking, with scripts off; nothing but the page itself is asked for."""
    page = browser.page(width=1280, height=900, javascript=False)
    page.open(f"{base}/?refresh=0&sort=name")
    page.type("input[type=search]", hurt["account"])
    page.follow("form button")
    expect(shown(page) == [hurt["account"]], f"the search found {shown(page)}")
    address = page.url()
    expect("refresh=0" in address and "sort=name" in address, f"the form forgot what was chosen: {address}")
    page.follow("tbody th a")
    expect(page.text("h1") == hurt["account"], "the name does not lead to the account")
    expect("refresh=0" in page.url(), f"the link forgot what was chosen: {page.url()}")
    page.follow(".trail a")
    expect(page.status == 200 and len(shown(page)) > 1, "the way back does not lead to the list")
    others = {one for one in page.requests if not one.startswith((base, "data:"))}
    expect(not others, f"the page asked elsewhere: {others}")
    expect(not page.complaints, f"the browser complains: {list(page.complaints)}")
    page.close()


def by_keyboard(browser, base):
    """From the first key to the last link: in order, each of them seen, and nothing is a trap."""
    page = browser.page(width=1280, height=900)
    page.open(f"{base}/?refresh=0")
    page.press("Tab")
    expect(page.focused() and page.focused()[1] == "Skip to the content", f"the first stop is {page.focused()}")
    page.press("Enter")
    page.press("Tab")
    within = page.evaluate("document.querySelector('main').contains(document.activeElement)")
    expect(within, f"the skip link leads to {page.focused()}")
    page.open(f"{base}/?refresh=0")
    seen, tops = [], []
    for _ in range(TABS_MAX):
        page.press("Tab")
        stop = page.focused()
        if stop is None:
            break
        seen.append(stop[1])
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        expect(ring != "none" or stop[1] == "Skip to the content", f"{stop} has the focus and nobody sees it")
        tops.append(page.evaluate("Math.round(document.activeElement.getBoundingClientRect().bottom + scrollY)"))
    expect(len(seen) < TABS_MAX, "the keyboard never leaves the page")
    names = shown(page)
    at = [seen.index(name) for name in names]
    expect(at == sorted(at), "the accounts are not reached in their order")
    expect(seen.index("Show") < at[0], "the filter is not reached before the accounts")
    # From the top to the bottom: what is reached later is never far above what was reached before.
    jumps = [(seen[i], seen[i + 1]) for i in range(1, len(tops) - 1) if tops[i + 1] < tops[i] - 60]
    expect(not jumps, f"the focus jumps up: {jumps}")
    page.evaluate("document.querySelector('input[type=search]').focus()")
    page.call("Input.insertText", {"text": names[0]})
    with page.navigation():
        page.press("Enter")
    expect(shown(page) == [names[0]], "Enter in the search field does not search")
    page.close()


def it_loads_itself_again(browser, base):
    """By itself, at the same address and the same place; and never where that was switched off."""
    page = browser.page(width=1280, height=500)
    page.open(f"{base}/?gate=open&refresh={RELOAD_SECONDS}#accounts")
    made = page.text(".clock")
    page.evaluate("scrollTo(0, 300)")
    with page.navigation(deadline=90):
        pass
    expect(page.text(".clock") != made, "the page that was loaded again is the old one")
    expect(page.url().split("#")[0] == f"{base}/?gate=open&refresh={RELOAD_SECONDS}", f"it went to {page.url()}")
    place = page.evaluate("scrollY")
    expect(place > 100, f"it went back to the top: {place}")
    page.follow(".refresh a:last-child")
    expect("gate=open" in page.url() and "refresh=0" in page.url(), f"switched off it went to {page.url()}")
    expect("refresh" not in page.headers, "what was switched off is still asked for")
    page.close()


def strict(base):
    """One sheet of style by its hash, no script, no frame, nothing kept by a cache."""
    import urllib.request

    with urllib.request.urlopen(f"{base}/") as answer:
        policy = answer.headers["content-security-policy"]
        expect(answer.headers["cache-control"] == "no-store", "a cache may keep the page")
    expect("default-src 'none'; style-src 'sha256-" in policy and "unsafe" not in policy, f"policy: {policy}")
    expect(" style=" not in get(f"{base}/"), "an element has a style of its own, which the policy refuses")
