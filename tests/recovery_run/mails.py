"""What can be seen of a mail: its one button, its text, and how it looks on a phone."""

import html.parser

from owner import BUTTON_PIXELS_MIN
from world import Broken

TEXT_COLUMNS_MAX = 72
# The landmarks of a page are those of the program that shows the mail in it.
MAIL_PROGRAMS_OWN = ("landmark-one-main:", "region:")
PHONE, DESK = (360, 740), (800, 900)
WHERE = (("phone", PHONE, False), ("phone-dark", PHONE, True), ("desk", DESK, False))


def buttons(mail):
    """Where the buttons lead that mend something, as they stand in the HTML part."""
    found = _Buttons()
    found.feed(mail.html)
    return found.links


def button(mail):
    """Where its one button leads."""
    links = buttons(mail)
    if len(links) != 1:
        raise Broken(f"{mail.subject!r} has {len(links)} buttons")
    return links[0]


def judge(mail, browser, pictures, name):
    """Complains of what makes a mail hard to read, in text and in HTML, on a phone, by day and by night."""
    problems = _of_the_text(mail.text)
    for link in buttons(mail):
        if link not in mail.text:
            problems.append("a button leads where no link of the text part does")
    problems += _of_the_html(mail, browser, pictures, name)
    if pictures.folder:
        (pictures.folder / f"{name}.txt").write_text(f"Subject: {mail.subject}\n\n{mail.text}")
    if problems:
        raise Broken(f"{mail.subject!r}: {'; '.join(problems)}")


def _of_the_text(text):
    long = [line for line in text.splitlines() if len(line) > TEXT_COLUMNS_MAX and "://" not in line]
    return [f"{len(line)} columns of text: {line}" for line in long]


def _of_the_html(mail, browser, pictures, name):
    page = browser.page(javascript=False)
    problems = []
    for where, size, dark in WHERE:
        page.look(*size, phone=size == PHONE, dark=dark)
        page.show(mail.html)
        if page.overflow() > 0:
            problems.append(f"{page.overflow()} pixels wider than a window of {size[0]}")
        heights = page.evaluate("[...document.querySelectorAll('a.act')].map(a => a.getBoundingClientRect().height)")
        if any(height < BUTTON_PIXELS_MIN for height in heights):
            problems.append(f"a button is only {min(heights)} pixels high")
        if size == PHONE:
            found = page.violations(pictures.axe)
            problems += [one for one in found if not one.startswith(MAIL_PROGRAMS_OWN)]
        pictures.take(page, f"{name}-{where}")
    elsewhere = [url for url in page.requests if not url.startswith("data:")]
    if elsewhere:
        problems.append(f"something is loaded from elsewhere: {elsewhere}")
    page.close()
    return problems


class _Buttons(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.links = []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "a" and attributes.get("class") == "act":
            self.links.append(attributes["href"])
