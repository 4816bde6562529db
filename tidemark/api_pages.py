"""`/docs`: Swagger UI for `/openapi.json`, from a folder with its files; without one there is no page."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

SCRIPT, STYLE = "swagger-ui-bundle.js", "swagger-ui.css"
PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tidemark's API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/{STYLE}">
<script src="/docs/{SCRIPT}" defer></script>
<script src="/docs/start.js" defer></script>
<main id="api"></main>
</html>
"""
START = """SwaggerUIBundle({ url: "/openapi.json", dom_id: "#api", validatorUrl: null, deepLinking: true });
"""
# Swagger UI writes style attributes; its pictures are in its style sheet.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


def folder(text: str) -> Path | None:
    """The parser of the setting. Raises ValueError."""
    if text == "none":
        return None
    if not all((Path(text) / name).is_file() for name in (SCRIPT, STYLE)):
        raise ValueError(f"should be none, or a folder with {SCRIPT} and {STYLE}")
    return Path(text)


def routes(files: Path | None) -> list[Route]:
    """All of them are public: they show nothing that /openapi.json does not."""
    if files is None:
        return []

    async def page(request: Request) -> Response:
        return HTMLResponse(PAGE, headers=HEADERS)

    async def start(request: Request) -> Response:
        return Response(START, media_type="text/javascript", headers=HEADERS)

    async def style(request: Request) -> Response:
        return FileResponse(files / STYLE, headers=HEADERS)

    async def script(request: Request) -> Response:
        return FileResponse(files / SCRIPT, headers=HEADERS)

    return [
        Route("/docs", page, methods=["GET"]),
        Route("/docs/start.js", start, methods=["GET"]),
        Route(f"/docs/{STYLE}", style, methods=["GET"]),
        Route(f"/docs/{SCRIPT}", script, methods=["GET"]),
    ]


def paths(routes: list[Route]) -> frozenset[str]:
    return frozenset(route.path for route in routes)
