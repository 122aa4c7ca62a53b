"""Ten thousand accounts: what is found is what is there, names stay text, and how long it takes."""

import http.client
import statistics
import time
from urllib.parse import quote, urlsplit

from eyes import expect, found, shown
from world import ACCOUNTS, HOSTILE, get_json

ROWS = 100
# A page of a hundred accounts, however they are; what is bigger takes a phone too long.
PAGE_BYTES_MAX = 400_000


def filters(page, base):
    """The list, its JSON and what was put into the store agree on how many there are."""
    expired = len(range(7, ACCOUNTS, 250))
    unscoped = len([n for n in range(11, ACCOUNTS, 200) if n % 250 != 7])
    rows = {
        "": ACCOUNTS,
        "provider=google": ACCOUNTS // 4,
        "provider=tiktok": ACCOUNTS // 2,
        "app=tiktok-b": ACCOUNTS // 4,
        "provider=tiktok&app=x": 0,
        "cause=any": expired + unscoped,
        "cause=none": ACCOUNTS - expired - unscoped,
        "cause=refresh_token_expired": expired,
        "cause=scope_missing": unscoped,
        "cause=owner": expired + unscoped,
        "cause=operator": 0,
        "gate=held": expired + unscoped,
        "gate=shut": expired + unscoped,
        "gate=open&cause=any": 0,
        "q=account-0123": 10,
        "q=GOOGLE/account-012": 25,
        "q=nobody": 0,
        "provider=nonsense": 0,
    }
    for query, expected in rows.items():
        page.open(f"{base}/?refresh=0&{query}")
        listed = get_json(f"{base}/accounts.json?{query}")
        counts = found(page), listed["found"], len(shown(page)), len(listed["accounts"])
        shows = min(ROWS, expected)
        expect(counts == (expected, expected, shows, shows), f"{query}: {counts}, expected {expected}")
        expect(shown(page) == [one["account"] for one in listed["accounts"]], f"{query}: page and JSON differ")
    return len(rows)


def orders(page, base):
    """Each order is the one that the numbers themselves have."""
    keys = {
        "name": lambda one: (one["provider"], one["account"].encode()),
        "ends": lambda one: one["expires_at"],
        "due": lambda one: one["refresh_due_at"] or 1 << 40,
        "401s": lambda one: -one["unauthorized_last_day"],
    }
    everybody = walk(base)
    for order, key in keys.items():
        in_order = sorted(everybody, key=lambda one: (key(one), one["provider"], one["account"].encode()))
        for nth in (1, 3):
            wanted = [one["account"] for one in in_order[(nth - 1) * ROWS : nth * ROWS]]
            page.open(f"{base}/?refresh=0&sort={order}&page={nth}")
            expect(shown(page) == wanted, f"sort={order}: page {nth} shows others")
            listed = get_json(f"{base}/accounts.json?sort={order}&page={nth}")["accounts"]
            expect([one["account"] for one in listed] == wanted, f"sort={order}: page {nth} of the JSON has others")
    troubled = [one["cause"] is not None for one in everybody]
    expect(troubled == sorted(troubled, reverse=True), "worst first: somebody who is well stands before one who is not")
    return len(keys) + 1


def walk(base):
    """Every account, by following `next`."""
    listed, address = [], "/accounts.json"
    while address:
        answer = get_json(base + address)
        listed += answer["accounts"]
        address = answer["next"]
    expect(len(listed) == ACCOUNTS, f"{len(listed)} accounts on all pages")
    expect(len({(one["provider"], one["account"]) for one in listed}) == ACCOUNTS, "somebody is there twice")
    return listed


def paging(page, base):
    """From page to page with the filter kept; a page that does not exist is the last."""
    page.open(f"{base}/?refresh=0&provider=google&sort=name")
    first = shown(page)
    page.follow("a[rel=next]")
    expect("provider=google" in page.url() and "sort=name" in page.url(), f"the next page forgot: {page.url()}")
    expect(not set(first) & set(shown(page)), "the second page shows accounts of the first")
    page.follow("a[rel=prev]")
    expect(shown(page) == first, "the way back leads elsewhere")
    page.open(f"{base}/?refresh=0&page=99999")
    expect("Page 100 of 100" in page.text(".pages") and len(shown(page)) == ROWS, "a page too far is not the last one")
    page.open(f"{base}/?refresh=0&provider=google")
    page.evaluate("document.querySelector('select[name=cause]').value = 'any'")
    page.follow("form button")
    expect("provider=google" in page.url() and "cause=any" in page.url(), f"the form forgot: {page.url()}")
    expect(found(page) == get_json(f"{base}/accounts.json?provider=google&cause=any")["found"], "the form filters otherwise")


def names_stay_text(page, base):
    """Whatever an account is called: it is shown as it is, and its link leads to its page."""
    for name in HOSTILE:
        page.open(f"{base}/?refresh=0&q={quote(name.strip(), safe='')}")
        expect(name in shown(page), f"{name!r} is not found by its name: {shown(page)}")
        # The keyboard: the middle of a name that is written on several lines may be none of it.
        page.evaluate("document.querySelector('tbody th a').focus()")
        with page.navigation():
            page.press("Enter")
        expect(page.status == 200 and page.text("h1 bdi") == name, f"{name!r}: its link leads to {page.url()}")
        made = page.evaluate("document.querySelectorAll('script, img, h1 b').length")
        expect(made == 0 and "broken" not in page.title().split("/")[0], f"{name!r} became markup")
        listed = get_json(page.url().split("?")[0] + ".json")
        expect(listed["account"] == name, f"{name!r}: its JSON is about {listed['account']!r}")
    return len(HOSTILE)


def one_among_them(base):
    """The first page, a late one, one with a filter, and an account, each as JSON too."""
    account = get_json(f"{base}/accounts.json")["accounts"][0]["page"]
    return ["/", "/?page=50", "/?sort=401s", "/?q=account-09&cause=none", account, "/accounts.json", f"{account}.json"]


def speed(base, path, requests):
    """Milliseconds to the first byte and to the last, each on a connection of its own, and the bytes of the answer."""
    where = urlsplit(base)
    first, last, size = [], [], 0
    for _ in range(requests):
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
        connection.connect()
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        first.append((time.perf_counter() - began) * 1_000)
        size = len(answer.read())
        last.append((time.perf_counter() - began) * 1_000)
        connection.close()
        expect(answer.status == 200, f"{path}: {answer.status}")
    expect(size < PAGE_BYTES_MAX, f"{path}: {size} bytes")
    return statistics.median(first), statistics.median(last), max(last), size
