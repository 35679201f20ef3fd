"""Which gateway and which token, and when neither is used."""

import os
import ssl
from unittest import mock

import holdfast
from holdfast._config import configuration, distrusted, gateway_url, trust
from holdfast._hidden import Hidden
from holdfast._session import session, use
from support import TestCase, shown_by

TOKEN = "hf_of-the-environment"
OF_FILE = "hf_of-the-file"

FILE = """
current = "here"
[contexts.here]
gateway = "http://127.0.0.1:7230/"
token = "hf_of-the-file"
[contexts.there]
gateway = "https://gateway.example.com"
token = "hf_of-another"
[contexts.plain]
gateway = "http://gateway.example.com"
token = "hf_of-another"
allow_plain_http = true
[contexts.bare]
gateway = "https://gateway.example.com:8443"
[contexts.own]
gateway = "https://own.example.com"
token = "hf_of-another"
ca_file = "/etc/ssl/own.pem"
"""


class Configurations(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.home = self.directory()
        self.environment = {"XDG_CONFIG_HOME": str(self.home)}

    def file(self, content: str, mode: int = 0o600) -> None:
        path = self.home / "holdfast" / "config.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        path.chmod(mode)

    def found(self, **environment: str) -> tuple[str, str]:
        found = configuration({**self.environment, **environment})
        return found.gateway, found.token.reveal()

    def refused(self, words: str, **environment: str) -> None:
        names = {"HOLDFAST_TOKEN", "HOLDFAST_GATEWAY", "HOLDFAST_CONTEXT", *environment}
        names.add("HOLDFAST_ALLOW_TOKEN_OVER_PLAIN_HTTP")
        emptied = dict.fromkeys(names, "")
        given = {**emptied, **self.environment, **environment}
        self.addCleanup(use, None)
        with mock.patch.dict(os.environ, given):
            for call in (session, holdfast.configure):
                use(None)
                error, shown = shown_by(holdfast.ConfigurationError, call)
                self.assertRegex(str(error), words)
                for token in (TOKEN, OF_FILE, "hf_of-another"):
                    self.assertNotIn(token, shown)

    def test_without_anything_it_says_what_to_do(self) -> None:
        self.refused("holdfast tokens create")
        self.refused("first-token in its data directory")
        self.refused("no context 'x'", HOLDFAST_CONTEXT="x")

    def test_environment(self) -> None:
        default = "http://127.0.0.1:7230"
        self.assertEqual(self.found(HOLDFAST_TOKEN=f" {TOKEN}\n"), (default, TOKEN))
        url = "https://a.example.com/holdfast"
        self.assertEqual(self.found(HOLDFAST_TOKEN=TOKEN, HOLDFAST_GATEWAY=url + "/"), (url, TOKEN))
        for wrong in ("secret", "hf_", "hf_a b", "hf_ä", "Bearer hf_x"):
            self.refused("begin with hf_", HOLDFAST_TOKEN=wrong)

    def test_file(self) -> None:
        self.file(FILE)
        self.assertEqual(self.found(), ("http://127.0.0.1:7230", OF_FILE))
        there = ("https://gateway.example.com", "hf_of-another")
        self.assertEqual(self.found(HOLDFAST_CONTEXT="there"), there)
        self.assertEqual(
            self.found(HOLDFAST_CONTEXT="there", HOLDFAST_TOKEN=TOKEN), (there[0], TOKEN)
        )
        plain = ("http://gateway.example.com", "hf_of-another")
        self.assertEqual(self.found(HOLDFAST_CONTEXT="plain"), plain)
        self.refused("no token for https://gateway.example.com:8443", HOLDFAST_CONTEXT="bare")
        self.refused("no context 'nowhere'", HOLDFAST_CONTEXT="nowhere")

    def test_a_token_goes_to_its_own_gateway_only(self) -> None:
        self.file(FILE)
        elsewhere = "https://elsewhere.example.com"
        self.refused(f"no token for {elsewhere}", HOLDFAST_GATEWAY=elsewhere)
        found = self.found(HOLDFAST_GATEWAY="http://127.0.0.1:7230")
        self.assertEqual(found, ("http://127.0.0.1:7230", OF_FILE))
        # Whoever asks for a context in so many words gets its gateway, with its token.
        variables = {"HOLDFAST_GATEWAY": elsewhere, "HOLDFAST_TOKEN": TOKEN}
        given = configuration({**self.environment, **variables}, context="there")
        self.assertEqual(
            (given.gateway, given.token.reveal()), self.found(HOLDFAST_CONTEXT="there")
        )
        for gateway in ("https://straße.de", "https://a..b", f"https://{'a' * 64}.de"):
            self.refused("no name of DNS", HOLDFAST_GATEWAY=gateway, HOLDFAST_TOKEN=TOKEN)
        self.refused("no URL of http", HOLDFAST_GATEWAY="user:hunter2@host", HOLDFAST_TOKEN=TOKEN)

    def test_an_authority_is_for_its_own_gateway_only(self) -> None:
        self.file(FILE)
        for environment, expected in (
            ({"HOLDFAST_CONTEXT": "own"}, "/etc/ssl/own.pem"),
            ({"HOLDFAST_CONTEXT": "own", "HOLDFAST_CA_FILE": "a.pem"}, "a.pem"),
            ({"HOLDFAST_CONTEXT": "own", "HOLDFAST_CA_FILE": ""}, "/etc/ssl/own.pem"),
            ({"HOLDFAST_CONTEXT": "own", "HOLDFAST_GATEWAY": "https://b"}, None),
            ({"HOLDFAST_CONTEXT": "there"}, None),
        ):
            with self.subTest(environment):
                given = {**self.environment, "HOLDFAST_TOKEN": TOKEN, **environment}
                self.assertEqual(configuration(given).ca_file, expected)

    def test_authorities(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        missing = self.home / "missing.pem"
        with self.assertRaisesRegex(holdfast.ConfigurationError, "cannot be read"):
            trust(context, str(missing))
        for content in ("", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n"):
            missing.write_text(content)
            with self.assertRaisesRegex(holdfast.ConfigurationError, "no certificate authority"):
                trust(context, str(missing))

    def test_certificates_that_are_not_trusted(self) -> None:
        self.assertIsNone(distrusted("https://a", OSError("refused")))
        for code, words in ((18, "HOLDFAST_CA_FILE"), (62, "as its"), (10, "renew")):
            cause = ssl.SSLCertVerificationError("certificate verify failed")
            cause.verify_code, cause.verify_message = code, "the reason"
            try:
                raise OSError from cause
            except OSError as error:
                distrust = distrusted("https://a", error)
            expected = f"of https://a is not trusted: the reason\nhint: .*{words}"
            self.assertRegex(str(distrust), expected)

    def test_a_file_that_others_can_read_gives_no_token(self) -> None:
        for mode in (0o644, 0o640, 0o604):
            self.file(FILE, mode)
            self.refused("chmod 600")
            self.assertEqual(self.found(HOLDFAST_CONTEXT="bare", HOLDFAST_TOKEN=TOKEN)[1], TOKEN)
        for mode in (0o620, 0o602, 0o666):
            self.file(FILE, mode)
            self.refused("written by others", HOLDFAST_CONTEXT="bare", HOLDFAST_TOKEN=TOKEN)

    def test_files_that_are_wrong(self) -> None:
        for content, words in (
            ('current = "hf_of-the-file', "is not TOML"),
            ('current = "x"', "no context 'x'"),
            ("current = 5", "no context 5"),
            ('current = "x"\ncontexts = 5', "no context 'x'"),
            ('current = "x"\n[contexts]\nx = 5', "is no table"),
            ('current = "x"\n[contexts.x]\ntoken = "hf_x"', "needs a gateway"),
            (
                'current = "x"\n[contexts.x]\ngateway = "a"\ntokens = "hf_x"',
                "unknown field 'tokens'",
            ),
            ('current = "x"\n[contexts.x]\ngateway = "a"\ntoken = 5', "is no text"),
            ('current = "x"\n[contexts.x]\ngateway = "a"\nca_file = "b.pem"', "absolute path"),
            ('current = "x"\n[contexts.x]\ngateway = "a"\nca_file = 5', "absolute path"),
            ("a" * (1 << 20) + "a", "longer than"),
        ):
            with self.subTest(words):
                self.file(content)
                self.refused(words)

    def test_plain_http_only_where_it_is_asked_for(self) -> None:
        for url in ("http://10.0.0.1:7230", "http://gateway", "http://127.0.0.1.example.com"):
            self.refused("everyone on the way", HOLDFAST_TOKEN=TOKEN, HOLDFAST_GATEWAY=url)
            switch = {"HOLDFAST_ALLOW_TOKEN_OVER_PLAIN_HTTP": "1"}
            self.assertEqual(
                self.found(HOLDFAST_TOKEN=TOKEN, HOLDFAST_GATEWAY=url, **switch)[0], url
            )
        for url in ("http://localhost", "http://[::1]:1", "http://127.9.9.9", "https://gateway"):
            self.assertEqual(self.found(HOLDFAST_TOKEN=TOKEN, HOLDFAST_GATEWAY=url)[0], url)

    def test_arguments_win(self) -> None:
        self.file(FILE)
        found = configuration(
            {**self.environment, "HOLDFAST_TOKEN": TOKEN, "HOLDFAST_GATEWAY": "https://a"},
            gateway="http://b",
            token=Hidden("hf_argument"),
            allow_plain_http=True,
        )
        self.assertEqual((found.gateway, found.token.reveal()), ("http://b", "hf_argument"))
        self.assertNotIn("hf_argument", repr(found))
        there = configuration(self.environment, context="there")
        self.assertEqual(there.gateway, "https://gateway.example.com")

    def test_urls(self) -> None:
        for given, expected in (
            ("HTTP://LocalHost:80/", "http://localhost"),
            ("https://a:443/b//", "https://a/b"),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ):
            self.assertEqual(gateway_url(given), expected)
        for wrong in (
            "",
            "a",
            "ftp://a",
            "http://",
            "http://a:x",
            "http://[",
            "http://a?b",
            "http://a#b",
        ):
            with self.subTest(wrong), self.assertRaises(holdfast.ConfigurationError):
                gateway_url(wrong)
        with self.assertRaises(holdfast.ConfigurationError) as caught:
            gateway_url("https://user:hunter2@a")
        self.assertNotIn("hunter2", str(caught.exception))

    def test_what_a_process_is_told(self) -> None:
        self.addCleanup(use, None)
        holdfast.configure(gateway="https://gateway.example.com", token="hf_told")
        self.assertEqual(session().configuration.token.reveal(), "hf_told")
        if hasattr(os, "fork"):
            parent = session()
            child = os.fork()
            if not child:
                os.environ["HOLDFAST_TOKEN"] = TOKEN
                os._exit(int(session() is parent))
            self.assertEqual(os.waitpid(child, 0)[1], 0)
