"""The status pages, looked at as people look at them. `tests/pages` starts it.

Nothing is believed of a page but what a browser shows of it; what it should show is known from the store that the test
made, or from the page's JSON. Times are printed and never judged: another machine has others.
"""

import argparse
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import chromium
import in_thousands
import on_stage
import pictures
import world
from eyes import LOOKS, Eyes


def main():
    # Whoever ends it ends all that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = arguments()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="oauth-keepalive-pages-") as folder:
        stage, many = Path(folder, "demo"), Path(folder, "many")
        stage.mkdir()
        many.mkdir()
        starts = {"demo": (world.demo, stage), "many": (world.thousands, many)}
        running = {}
        try:
            # Both start while the browser does.
            for part in options.only or starts:
                start, place = starts[part]
                running[part] = start(options.binary, place)
            with chromium.Browser() as browser:
                eyes = Eyes(browser, options.axe, options.screenshots)
                said = [look(browser, eyes, running[part].base, options) for part, look in PARTS.items() if part in running]
                print(f"REMARK: {eyes.looked_at} looks clean; {'; '.join(said)}")
        except (world.Broken, chromium.Failed) as broken:
            for one in running.values():
                print(one.log.read_text(errors="replace")[-800:])
            traceback.print_exc()
            print(f"\nFAILED: {broken}")
            sys.exit(1)
        finally:
            for one in running.values():
                one.close()
    print(f"everything as it should be after {time.monotonic() - began:.0f} s")


def ten_thousand(browser, eyes, base, options):
    page = eyes.page
    tell("filters agree with the store", in_thousands.filters(page, base))
    tell("orders are what they are called", in_thousands.orders(page, base))
    in_thousands.paging(page, base)
    tell("names stay text and lead to their pages", in_thousands.names_stay_text(page, base))
    eyes.look(f"{base}/?refresh=0", "ten-thousand", looks={"light": LOOKS["light"]})
    return f"10,000 accounts: {measure(page, base, options.requests)}"


def the_demo(browser, eyes, base, options):
    on_stage.strict(base)
    hurt = on_stage.when_something_is_wrong(base)
    if options.pictures:
        draw(eyes.page, base, options.pictures)
    on_stage.looks(eyes, base, hurt)
    tell("looks without a finding of axe", eyes.looked_at)
    on_stage.what_is_said(eyes, base, hurt)
    on_stage.without_scripts(browser, base, hurt)
    on_stage.by_keyboard(browser, base)
    on_stage.it_loads_itself_again(browser, base)
    tell("ways to work them: no scripts, no mouse, no hand at all", 3)
    return f"{hurt['account']} of the demo needed its owner"


PARTS = {"demo": the_demo, "many": ten_thousand}


def draw(page, stage, folder):
    one = on_stage.in_full_swing(stage)
    for name, path, words in [
        ("list", "/?refresh=0", "The status page of the demo: what is to be done, the sidecar, the accounts, worst first"),
        ("account", f"{one['page']}?refresh=0", "The page of an account whose owner must grant a scope again"),
        ("phone", "/?refresh=0&cause=any", "The status page on a phone"),
    ]:
        size = pictures.draw(page, stage + path, name, folder, words)
        print(f"picture {name}.svg: {size} bytes")


def measure(page, base, requests):
    print(f"\n10,000 accounts, {requests} requests each, median; as the machine was busy with")
    print("first byte    complete   slowest     bytes  path")
    said = ""
    for path in in_thousands.one_among_them(base):
        first, last, slowest, size = in_thousands.speed(base, path, requests)
        print(f"{first:7.1f} ms  {last:7.1f} ms  {slowest:5.1f} ms  {size:8}  {path}")
        said = said or f"first byte {first:.1f} ms, whole page {last:.1f} ms"
    page.look(1280, 900)
    page.open(f"{base}/?refresh=0")
    drawn = page.timings()
    print(f"in Chromium: first byte {drawn['first_byte_ms']:.0f} ms, complete and drawn {drawn['complete_ms']:.0f} ms")
    return said


def tell(what, count):
    print(f"ok  {count:4}  {what}", flush=True)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--axe", required=True)
    parser.add_argument("--binary", required=True, type=lambda path: str(Path(path).resolve()))
    parser.add_argument("--screenshots")
    parser.add_argument("--pictures")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="one of the two sidecars; both otherwise")
    parser.add_argument("--requests", type=int, default=20)
    return parser.parse_args()


if __name__ == "__main__":
    main()
