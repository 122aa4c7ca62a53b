"""The owner at a browser: opens links, presses buttons, agrees or does not, and reads what the pages say."""

import urllib.parse
import urllib.request

from world import Broken, DEADLINE_SECONDS

GO = "#go"
# What a finger hits.
BUTTON_PIXELS_MIN = 44


class Owner:
    """Somebody with a browser of their own."""

    def __init__(self, browser, pictures, javascript=False, phone=False, dark=False):
        width, height = (390, 844) if phone else (1280, 800)
        self.page = browser.page(width=width, height=height, phone=phone, dark=dark, javascript=javascript)
        self.pictures, self.axe, self.is_phone = pictures, pictures.axe, phone

    def open(self, link):
        self.page.open(link)
        return self.read()

    def open_mail(self, mail):
        """Presses the button of the mail, as the mail program shows it."""
        self.page.show(mail.html)
        self.page.follow("a.act")
        return self.read()

    def go(self, by_keyboard=False):
        """Presses the button, and is at the provider's consent page."""
        if by_keyboard:
            self.page.press("Tab")
            if self.page.focused()[0] != f"button{GO}":
                raise Broken(f"the first thing that the keyboard reaches is {self.page.focused()}, not the button")
            with self.page.navigation():
                self.page.press("Enter")
        else:
            self.page.follow(GO)
        if self.page.title() != "Demo provider":
            raise Broken(f"the button does not lead to the provider but to {self.page.url()}: {self.page.text()}")
        # Whoever has the link may connect the account, and the provider has no need of it.
        if self.page.evaluate("document.referrer"):
            raise Broken("the provider is told from which link the owner came")

    def allow(self, account=None, without=()):
        """Agrees, as whoever is signed in or as another, to all permissions but these."""
        if account is not None:
            self.page.evaluate(f"document.querySelector('#account').value = {account!r}")
        for scope in without:
            self.page.click(f'input[value="{scope}"]')
        self.page.follow("#allow")
        return self.read()

    def deny(self):
        self.page.follow("#deny")
        return self.read()

    def agreed_without_going_back(self, account):
        """Agrees, and has the address to which the provider would send the browser, which goes nowhere yet."""
        form = {"decision": "allow", "account": account, "scope": self.page.evaluate(SCOPES_ASKED)}
        request = urllib.request.Request(self.page.url(), urllib.parse.urlencode(form, doseq=True).encode())
        try:
            urllib.request.build_opener(Stay).open(request, timeout=DEADLINE_SECONDS)
        except urllib.error.HTTPError as answer:
            return answer.headers["location"]
        raise Broken("the provider sends nobody back")

    def came_back_to(self):
        """The last address of ours at which the browser arrived."""
        return next(url for url in reversed(self.page.requests) if "/connect/callback" in url)

    def read(self):
        """What the page says; complains of one that no owner should see."""
        page = self.page
        shown = Shown(page)
        self.pictures.pages.append(shown.html)
        problems = []
        if page.overflow() > 0:
            problems.append(f"it is {page.overflow()} pixels wider than the window")
        if shown.has_button and page.box(GO)["height"] < BUTTON_PIXELS_MIN:
            problems.append("its button is too small for a finger")
        if page.attribute("html", "lang") != "en":
            problems.append("it does not say its language")
        # Asking for what is not there is told by a status; everything else here would be ours.
        problems += [said for said in page.complaints if "the server responded with a status of" not in said]
        page.complaints.clear()
        problems += page.violations(self.axe)
        if problems:
            raise Broken(f"the page {shown.id!r} of {page.url()}: {'; '.join(problems)}")
        return shown

    def picture(self, name):
        self.pictures.take(self.page, name)


class Shown:
    """What a page of ours said, and how."""

    def __init__(self, page):
        self.status, self.title, self.text = page.status, page.title(), page.text()
        self.id = page.attribute(".card", "id")
        self.has_button = page.box(GO) is not None
        self.html = page.evaluate("document.documentElement.outerHTML")


class Pictures:
    """Where pictures go, if anybody wants them."""

    def __init__(self, folder, axe):
        self.folder, self.axe = folder, axe
        # The source of every page that an owner has seen.
        self.pages = []

    def take(self, page, name):
        if self.folder:
            page.screenshot(self.folder / f"{name}.png", full=True)


class Stay(urllib.request.HTTPRedirectHandler):
    """A client that is sent on and does not go."""

    def redirect_request(self, *_):
        return None


SCOPES_ASKED = "[...document.querySelectorAll('input[name=scope]')].map(box => box.value)"
