"""Pictures of a page that are text: the page's own markup and style in an SVG, so that the README needs no binary file
and every browser draws them as it draws the page, in the reader's own light or dark."""

import re
from pathlib import Path

from eyes import expect

# As wide as a README shows it, and a phone beside it.
WIDTHS = {"list": 1280, "account": 1280, "phone": 390}

SERIALIZE = """(() => {
    const body = document.body.cloneNode(true);
    for (const gone of body.querySelectorAll(".skip, script")) gone.remove();
    // A picture leads nowhere, and asks nobody for anything.
    for (const a of body.querySelectorAll("a")) { a.setAttribute("class", a.className + " link"); a.removeAttribute("href"); }
    for (const e of body.querySelectorAll("[title]")) e.removeAttribute("title");
    for (const e of body.querySelectorAll("[id]")) e.removeAttribute("id");
    for (const e of body.querySelectorAll("[aria-labelledby]")) e.removeAttribute("aria-labelledby");
    const box = document.body.getBoundingClientRect();
    return { height: Math.ceil(box.height), body: new XMLSerializer().serializeToString(body),
             style: document.querySelector("style").textContent };
})()"""

# A link that leads nowhere looks like one all the same.
LINKS = "a.link { color: var(--link); text-decoration: underline; } .brand a.link { color: var(--ink); text-decoration: none; } \
.figures a.link { color: inherit; } .refresh a[aria-current] { color: var(--ink); text-decoration: none; }"


def of_width(style, width):
    """The style as it is at this width: whoever shows a picture smaller must not get the page of a smaller window."""

    def narrow(match):
        return match.group(2) if width <= int(match.group(1)) else ""

    return re.sub(r"^@media \(max-width: (\d+)px\) \{\n(.*?)^\}\n", narrow, style, flags=re.MULTILINE | re.DOTALL)


def draw(page, url, name, folder, words):
    """Writes one picture and looks at it as a README does."""
    width = WIDTHS[name]
    page.look(width, 900)
    page.open(url)
    seen = page.evaluate(SERIALIZE)
    body = re.sub(r"\n\s*\n+", "\n", seen["body"])
    style = (of_width(seen["style"], width) + LINKS).replace("&", "&amp;").replace("<", "&lt;")
    height = seen["height"]
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>{words}</title>\n<style>{style}</style>\n"
        f'<foreignObject width="{width}" height="{height}">{body}</foreignObject>\n</svg>\n'
    )
    path = Path(folder, f"{name}.svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture)
    page.open(path.resolve().as_uri())
    expect(page.evaluate("document.documentElement.tagName") == "svg", f"{path} is no picture: {page.text()[:300]}")
    return len(picture)
