"""Known attacks on JWT verifiers, each with its public source and words of the reason for refusal.

Every token has a right signature unless its name says otherwise, so only the rule under attack can refuse it.
RFC 8725 is "JSON Web Token Best Current Practices". GHSA and CVE numbers without a product are PyJWT's.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.authorizer.forging import (
    AUDIENCE,
    ISSUER,
    NOW,
    base64url,
    claims,
    claims_of_size,
    claims_with_raw,
    claims_without,
    good_token,
    header,
    signed,
)


class Attack(NamedTuple):
    name: str
    source: str
    token: str
    refused_with: str


GOOD = good_token()
HEAD, BODY, SIGNATURE = GOOD.split(".")
SHAPE = "shape of a JWT"
MEMBERS = "members beside alg, typ and kid"
ALGORITHM = "algorithm is not the one expected"
TYPE = "typ or kid"
NUMBER = "not a number"
ASCII = "visible ASCII"


def _header_attack(name: str, source: str, header_json: str | bytes, refused_with: str) -> Attack:
    return Attack(name, source, signed(header_json, claims()), refused_with)


def _claim_attack(name: str, source: str, payload_json: str | bytes, refused_with: str) -> Attack:
    return Attack(name, source, signed(header(), payload_json), refused_with)


ALGORITHMS_CLAIMED: tuple[object, ...] = (
    *("none", "None", "NONE", "nOnE", "", None, 5, ["HS256"], {"HS256": 1}),
    *("hs256", "HS384", "RS256", "HS256\0", " HS256"),
)
ALGORITHM_ATTACKS = [
    *(
        _header_attack(
            f"alg {alg!r}", "RFC 8725 3.1; CVE-2015-9235 of jsonwebtoken", header(alg=alg), ALGORITHM
        )
        for alg in ALGORITHMS_CLAIMED
    ),
    _header_attack("alg missing", "RFC 7515 4.1.1", '{"typ":"JWT"}', ALGORITHM),
    _header_attack(
        "alg twice", "RFC 8725 2.6, RFC 7515 4", '{"alg":"none","alg":"HS256"}', "names a member twice"
    ),
    Attack(
        "alg none without signature",
        "RFC 8725 2.1",
        f"{base64url(header(alg='none').encode())}.{BODY}.",
        SHAPE,
    ),
    Attack("signature cut off", "RFC 8725 3.3", f"{HEAD}.{BODY}.", SHAPE),
    Attack("no third segment", "RFC 7515 7.1", f"{HEAD}.{BODY}", SHAPE),
    Attack("four segments", "RFC 7515 7.1", f"{GOOD}.{SIGNATURE}", SHAPE),
    Attack("five segments, a JWE", "RFC 7516 3.1", f"{GOOD}.{SIGNATURE}.{SIGNATURE}", SHAPE),
    Attack(
        "compact within JSON",
        "CVE-2022-39227 of python_jwt",
        f'{{"payload":"{BODY}","protected":"{HEAD}","{HEAD}.{BODY}.{SIGNATURE}":""}}',
        SHAPE,
    ),
    Attack("no signature at all", "CVE-2020-28042 of ServiceStack", f"{HEAD}.{BODY}.\0", SHAPE),
    Attack("JSON serialisation", "RFC 7515 7.2", f'{{"payload":"{BODY}","signature":"{SIGNATURE}"}}', SHAPE),
    Attack("another secret", "RFC 8725 3.3", signed(header(), claims(), b"x" * 32), "InvalidSignature"),
    Attack("an empty secret", "RFC 8725 3.5", signed(header(), claims(), b""), "InvalidSignature"),
    Attack(
        "payload of another token",
        "RFC 8725 3.3",
        f"{HEAD}.{base64url(claims(sub='root').encode())}.{SIGNATURE}",
        "InvalidSignature",
    ),
]

HEADER_ATTACKS = [
    *(
        _header_attack(f"header member {name}", source, header(**{name: value}), MEMBERS)
        for name, value, source in (
            ("jwk", {"kty": "oct", "k": "AAAA"}, "RFC 8725 3.10; CVE-2018-0114 of node-jose"),
            ("jku", "https://attacker.example/jwks.json", "RFC 8725 3.10"),
            ("x5u", "https://attacker.example/x.pem", "RFC 8725 3.10"),
            ("x5c", ["MIIB"], "RFC 8725 3.10"),
            ("crit", ["unknown"], "RFC 7515 4.1.11; CVE-2026-32597, GHSA-752w-5fwx-jx9f"),
            ("crit", [], "RFC 7515 4.1.11; CVE-2026-32597, GHSA-752w-5fwx-jx9f"),
            ("b64", False, "RFC 7797 6; GHSA-w7vc-732c-9m39"),
            ("zip", "DEF", "RFC 8725 3.6"),
            ("cty", "JWT", "RFC 7519 5.2"),
            ("p2c", 2**31, "CVE-2022-36083 of jose: a billion rounds of PBKDF2"),
            ("enc", "A128GCM", "RFC 8725 2.3"),
            ("epk", {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, "RFC 8725 3.4, invalid curve"),
            ("x5t", "AAAA", "RFC 8725 3.10"),
            ("nonce", "AAAA", "RFC 8725 3.9"),
            ("ALG", "none", "RFC 7515 4: names are case-sensitive"),
            ("exp", NOW + 600, "RFC 7519 5.3"),
        )
    ),
    *(
        _header_attack(f"kid {kid!r}", "RFC 8725 3.10", header(kid=kid), TYPE)
        for kid in (
            "../../dev/null",
            "x' UNION SELECT 'k",
            "key\0",
            "|ls",
            "",
            "k" * 65,
            "https://attacker.example",
        )
    ),
    *(
        _header_attack(f"kid {kid!r}", "RFC 7515 4.1.4", header(kid=kid), "TypeError")
        for kid in (5, ["k"], None)
    ),
    *(
        _header_attack(f"typ {typ!r}", "RFC 8725 3.11", header(typ=typ), TYPE)
        for typ in ("logout+jwt", "dpop+jwt", "secevent+jwt", "JOSE", "", 5, None, ["JWT"])
    ),
    _header_attack("header in UTF-16", "RFC 8725 3.7", header().encode("utf-16"), "UnicodeDecodeError"),
    _header_attack(
        "header with a byte order mark", "RFC 8259 8.1", b"\xef\xbb\xbf" + header().encode(), "JSONDecode"
    ),
    _header_attack("header is a string", "RFC 7515 4", '"HS256"', "not an object"),
    _header_attack("header is null", "RFC 7515 4", "null", "not an object"),
    _header_attack("header then more", "RFC 8259 2", header() + header(alg="none"), "JSONDecodeError"),
    _header_attack("header is a list", "RFC 7515 4", '["HS256"]', "not an object"),
    _header_attack("header of 700 lists", "GHSA-8wjv-2p76-3863", "[" * 700 + "]" * 700, ""),
]

_NO_NUMBERS: tuple[object, ...] = ("abc", "9999999999", str(NOW), True, [NOW], {})

TIME_ATTACKS = [
    _claim_attack("expired", "RFC 7519 4.1.4", claims(iat=NOW - 600, exp=NOW - 6), "expired"),
    _claim_attack(
        "expired at the end of the leeway", "RFC 7519 4.1.4", claims(iat=NOW - 600, exp=NOW - 5), "expired"
    ),
    *(
        _claim_attack(f"{name} missing", "RFC 7519 4.1", claims_without(name), "Missing")
        for name in ("exp", "iat")
    ),
    *(
        _claim_attack(f"{name} null", "RFC 7519 4.1", claims(**{name: None}), "Missing")
        for name in ("exp", "iat")
    ),
    *(
        _claim_attack(f"{name} {value!r}", "RFC 7519 2 and 4.1", claims(**{name: value}), NUMBER)
        for name in ("exp", "iat", "nbf")
        for value in _NO_NUMBERS
    ),
    _claim_attack("nbf null", "RFC 7519 4.1.5", claims(nbf=None), NUMBER),
    _claim_attack("exp NaN", "RFC 8259 6", claims_with_raw("exp", "NaN"), "NaN"),
    _claim_attack("exp 1e400", "PyJWT 2.15.0 changelog", claims_with_raw("exp", "1e400"), "OverflowError"),
    _claim_attack(
        "exp of 4,301 digits", "CVE-2020-10735 of CPython", claims_with_raw("exp", "9" * 4301), "ValueError"
    ),
    _claim_attack("exp in a thousand million years", "RFC 6750 5.3", claims(exp=10**18), "life"),
    _claim_attack("a second longer than a day", "RFC 6750 5.3", claims(exp=NOW + 86_401), "life"),
    _claim_attack("exp before iat", "RFC 7519 4.1.4", claims(iat=NOW + 3, exp=NOW + 3), "life"),
    _claim_attack("iat in the future", "RFC 7519 4.1.6", claims(iat=NOW + 60), "not valid yet"),
    _claim_attack(
        "iat in the future, nbf not", "RFC 7519 4.1.6", claims(iat=NOW + 60, nbf=NOW), "not valid yet"
    ),
    _claim_attack("nbf in the future", "RFC 7519 4.1.5", claims(nbf=NOW + 60), "not valid yet"),
]

_WRONG_AUDIENCES: tuple[object, ...] = (
    "other",
    "tide",
    "tidemark2",
    "TIDEMARK",
    {"tidemark": 1},
    [AUDIENCE, 5],
    5,
)
_NO_AUDIENCES: tuple[object, ...] = ("", [], None)
_WRONG_ISSUERS: tuple[object, ...] = (
    "https://other",
    ISSUER[:-1],
    ISSUER + "/",
    ISSUER.upper(),
    "h",
    "",
    [ISSUER],
)
_WRONG_SUBJECTS = (
    "",
    "jane\r\nX-Admin: 1",
    "jane doe",
    "j\u00e4ne",
    "\u202eenaj",
    "jane\0",
    "\ud800",
    "j" * 129,
)
_WRONG_SCOPES = (
    "read  write",
    " read",
    "read\r\nwrite",
    "read\twrite",
    "r\u00e9ad",
    " ".join("abcdefghijklmnopq"),
)

CLAIM_ATTACKS = [
    *(
        _claim_attack(f"aud {aud!r}", "RFC 8725 3.9", claims(aud=aud), "InvalidAudience")
        for aud in _WRONG_AUDIENCES
    ),
    *(_claim_attack(f"aud {aud!r}", "RFC 8725 3.9", claims(aud=aud), "Missing") for aud in _NO_AUDIENCES),
    *(
        _claim_attack(
            f"iss {iss!r}", "RFC 8725 3.8; CVE-2024-53861, GHSA-75c5-xw7c-p5pm", claims(iss=iss), "Issuer"
        )
        for iss in _WRONG_ISSUERS
    ),
    *(
        _claim_attack(f"{name} missing", "RFC 8725 3.8, 3.9", claims_without(name), "")
        for name in ("iss", "aud", "sub")
    ),
    *(
        _claim_attack(f"sub {sub!r}", "RFC 8725 3.10; CWE-113", claims(sub=sub), ASCII)
        for sub in _WRONG_SUBJECTS
    ),
    *(
        _claim_attack(f"sub {sub!r}", "RFC 7519 4.1.2", claims(sub=sub), "InvalidSubject")
        for sub in (5, ["jane"], True)
    ),
    *(
        _claim_attack(f"scope {scope!r}", "RFC 6749 3.3", claims(scope=scope), ASCII)
        for scope in _WRONG_SCOPES
    ),
    *(
        _claim_attack(f"scope {scope!r}", "RFC 8693 4.2", claims(scope=scope), "TypeError")
        for scope in (["read"], 5, None)
    ),
    _claim_attack("jti 5", "RFC 7519 4.1.7", claims(jti=5), "InvalidJTI"),
    _claim_attack(
        "sub twice", "RFC 7519 4, RFC 8259 4", claims()[:-1] + ',"sub":"root"}', "names a member twice"
    ),
    _claim_attack(
        "nested member twice", "RFC 8259 4", claims_with_raw("x", '{"a":1,"a":2}'), "names a member twice"
    ),
    _claim_attack("NaN elsewhere", "RFC 8259 6", claims_with_raw("x", "NaN"), "NaN"),
    _claim_attack("-Infinity elsewhere", "RFC 8259 6", claims_with_raw("x", "-Infinity"), "NaN or Infinity"),
    _claim_attack("payload is a list", "RFC 7519 7.2", f"[{claims()}]", "not an object"),
    _claim_attack("payload is not UTF-8", "RFC 8725 3.7", b'{"sub":"\xff"}', "UnicodeDecodeError"),
    _claim_attack("payload is a JWT", "RFC 8725 3.3", GOOD, "JSONDecodeError"),
    _claim_attack(
        "sub of 2,000 lists", "GHSA-8wjv-2p76-3863", claims_with_raw("sub", "[" * 2000 + "]" * 2000), ""
    ),
]

ENCODING_ATTACKS = [
    Attack("a token of 1 MB", "CWE-400", signed(header(), claims(x="x" * 1_000_000)), SHAPE),
    Attack(
        "segments in bounds, 8,204 characters",
        "CWE-400",
        signed(header() + " " * 1496, claims_of_size(4593)),
        SHAPE,
    ),
    Attack("a header of 3 kB", "CWE-400", signed(header(kid="k" * 3000), claims()), SHAPE),
    Attack("padding", "RFC 7515 2", f"{GOOD}=", SHAPE),
    Attack("junk before the dot", "GHSA-hxm8-2xgr-2p9m", f"{HEAD}!!!!.{BODY}.{SIGNATURE}", SHAPE),
    Attack("standard base64 alphabet", "RFC 7515 2", f"{HEAD}.{BODY}.{SIGNATURE[:-1]}+", SHAPE),
    *(
        Attack(f"ends in {tail!r}", "RFC 7515 7.1; GHSA-hxm8-2xgr-2p9m", GOOD + tail, SHAPE)
        for tail in ("\n", " ", "\0", "\r\nX: y", "\u00e9", "?")
    ),
    Attack("wide letters", "RFC 7515 2", GOOD.replace("A", "\uff21"), SHAPE),
    Attack(
        "stray bits at the end",
        "RFC 4648 3.5; GHSA-hxm8-2xgr-2p9m",
        GOOD[:-1] + chr(ord(GOOD[-1]) + 1),
        "DecodeError",
    ),
    Attack("empty payload", "wycheproof rs256 tcId 259", signed(header(), b""), SHAPE),
    Attack("nothing", "RFC 7519 7.2", "", SHAPE),
    Attack("dots", "RFC 7519 7.2", "..", SHAPE),
]

ATTACKS = ALGORITHM_ATTACKS + HEADER_ATTACKS + TIME_ATTACKS + CLAIM_ATTACKS + ENCODING_ATTACKS
