"""The status pages, looked at as people look at them. `tests/pages` starts it.

Nothing is believed of a page but what a browser shows of it; what it should show is known from the store that the test
made, or from the page's JSON. Times are printed and never judged: another machine has others.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import chromium
import in_thousands
import on_stage
import pictures
import world
from eyes import Eyes


def main():
    # Whoever ends it ends all that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = arguments()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="oauth-keepalive-pages-") as folder:
        stage, many = Path(folder, "demo"), Path(folder, "many")
        stage.mkdir()
        many.mkdir()
        running = []
        try:
            # Both start while the browser does.
            running.append(world.demo(options.binary, stage))
            running.append(world.thousands(options.binary, many))
            with chromium.Browser() as browser:
                look(browser, *(one.base for one in running), options)
        except (world.Broken, chromium.Failed) as broken:
            for one in running:
                print(one.log.read_text(errors="replace")[-800:])
            print(f"\nFAILED: {broken}")
            sys.exit(1)
        finally:
            for one in running:
                one.close()
    print(f"everything as it should be after {time.monotonic() - began:.0f} s")


def look(browser, stage, many, options):
    eyes = Eyes(browser, options.axe, options.screenshots)
    page = eyes.page
    tell("filters agree with the store", in_thousands.filters(page, many))
    tell("orders are what they are called", in_thousands.orders(page, many))
    in_thousands.paging(page, many)
    tell("names stay text and lead to their pages", in_thousands.names_stay_text(page, many))
    eyes.look(f"{many}/?refresh=0", "ten-thousand", looks={"light": eyes_of("light"), "phone": eyes_of("phone")})
    on_stage.strict(stage)
    hurt = on_stage.when_something_is_wrong(stage)
    on_stage.looks(eyes, stage, hurt)
    tell("looks without a finding of axe", eyes.looked_at)
    on_stage.what_is_said(eyes, stage, hurt)
    on_stage.without_scripts(browser, stage, hurt)
    on_stage.by_keyboard(browser, stage)
    on_stage.it_loads_itself_again(browser, stage)
    if options.pictures:
        draw(page, stage, hurt, options.pictures)
    fastest = measure(page, many, options.requests)
    print(f"REMARK: {eyes.looked_at} looks clean; 10,000 accounts: {fastest}")


def eyes_of(look_name):
    import eyes

    return eyes.LOOKS[look_name]


def draw(page, stage, hurt, folder):
    for name, path, words in [
        ("list", "/?refresh=0", "The status page of the demo: what is to be done, the sidecar, the accounts, worst first"),
        ("account", f"{hurt['page']}?refresh=0", "The page of an account whose owner took the consent back"),
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
    parser.add_argument("--requests", type=int, default=20)
    return parser.parse_args()


if __name__ == "__main__":
    main()
