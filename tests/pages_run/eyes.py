"""What holds for every page, whatever it shows."""

import re
from pathlib import Path

from world import Broken

# A desk, a phone, and a desk at 200 and 400 per cent (WCAG 1.4.10: nothing is scrolled sideways at 320 pixels).
LOOKS = {
    "light": {"width": 1280, "height": 900},
    "dark": {"width": 1280, "height": 900, "dark": True},
    "phone": {"width": 360, "height": 780, "phone": True},
    "200-percent": {"width": 640, "height": 450},
    "400-percent": {"width": 320, "height": 256},
}

# A hundred accounts are thousands of elements, and axe looks at each of them.
AXE_DEADLINE = 240.0


class Eyes:
    """Looks at pages one after the other and keeps what was wrong with them."""

    def __init__(self, browser, axe, screenshots):
        self.page = browser.page()
        self.axe = axe
        self.screenshots = screenshots
        self.looked_at = 0
        if screenshots:
            Path(screenshots).mkdir(parents=True, exist_ok=True)

    def look(self, url, name, status=200, looks=LOOKS):
        """Opens a page in every look; axe must find nothing at all, and nothing may lie outside the window."""
        page = self.page
        page.complaints.clear()
        for look, window in looks.items():
            page.look(**window)
            page.open(url)
            expect(page.status == status, f"{name}: status {page.status}")
            found = page.violations(self.axe, AXE_DEADLINE)
            expect(not found, f"{name}, {look}: axe: {found}")
            expect(page.overflow() <= 0, f"{name}, {look}: {page.overflow()} pixels wider than the window")
            if self.screenshots:
                page.screenshot(f"{self.screenshots}/{name}-{look}.png", full=look != "phone")
            self.looked_at += 1
        # A page that is not there is no trouble of the page.
        complaints = [one for one in page.complaints if not (status == 404 and "404" in one)]
        expect(not complaints, f"{name}: the browser complains: {complaints}")


def expect(truth, otherwise):
    if not truth:
        raise Broken(otherwise)


def shown(page):
    """The names of the accounts in the list, as they are read."""
    return page.texts("tbody th a bdi")


def found(page):
    """How many accounts the list says it found."""
    match = re.search(r" of ([\d,]+), ", page.text(".range"))
    return int(match.group(1).replace(",", "")) if match else 0
