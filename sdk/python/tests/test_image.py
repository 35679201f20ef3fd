"""Images, secrets and options: what is taken, what is refused, and that values are not shown."""

import copy
import json
import pickle
import re
import sys
from functools import partial
from pathlib import Path

import holdfast
from holdfast import Image, Secret, function
from holdfast._hidden import Hidden
from holdfast._image import CREDENTIAL_KEYS, default_image
from holdfast._options import options
from support import TestCase, secret_words, shown_by

PASSWORD, VALUE = secret_words()
REPOSITORY = Path(__file__).parents[3]


class Images(TestCase):
    def test_values_are_kept_and_not_shown(self) -> None:
        image = Image("acme/app", base_image_creds={"PASSWORD": PASSWORD}, env_vars={"A": VALUE})
        self.assertEqual(image.credential.reveal(), {"PASSWORD": PASSWORD})
        self.assertEqual(
            repr(image), "Image('acme/app', base_image_creds=['PASSWORD'], env_vars=['A'])"
        )
        for shown in (repr(image), str(image), f"{image.credential}", repr(image.environment)):
            self.assertNotIn(PASSWORD, shown)
            self.assertNotIn(VALUE, shown)
        self.assertIs(copy.deepcopy(image), copy.copy(image))
        for leak in (pickle.dumps, lambda value: json.dumps(value.credential)):
            _, shown = shown_by(TypeError, leak, image)
            self.assertNotIn(PASSWORD, shown)

    def test_credentials_in_each_form(self) -> None:
        for given, kept in (
            (None, None),
            ({}, {}),
            ({"USERNAME": "a", "PASSWORD": ""}, {"USERNAME": "a", "PASSWORD": ""}),
            (["USERNAME", "PASSWORD"], {"USERNAME": "", "PASSWORD": ""}),
            (("REGISTRY_TOKEN",), {"REGISTRY_TOKEN": ""}),
        ):
            credential = Image("a", base_image_creds=given).credential
            self.assertEqual(credential and credential.reveal(), kept)

    def test_the_keys_are_those_of_the_gateway(self) -> None:
        source = REPOSITORY / "crates/credential/src/known_keys.rs"
        known = re.findall(r'const [A-Z_]+: &str = "([A-Z_]+)"', source.read_text())
        self.assertEqual(CREDENTIAL_KEYS, set(known))

    def test_what_is_wrong_is_named_and_not_repeated(self) -> None:
        for arguments, words in (
            ({"base_image": ""}, "base_image"),
            ({"base_image": "a\n"}, "base_image"),
            ({"base_image": f"user:{PASSWORD}@registry.example.com/a"}, "base_image_creds"),
            ({"base_image_creds": {"PASSWORD": None}}, "PASSWORD is NoneType"),
            ({"base_image_creds": {"PASSWORD": PASSWORD.encode()}}, "PASSWORD is bytes"),
            ({"base_image_creds": {"PASSWORD": PASSWORD + "\0"}}, "value of PASSWORD"),
            ({"base_image_creds": {"PASSWORD": PASSWORD + "\udc80"}}, "value of PASSWORD"),
            ({"base_image_creds": {PASSWORD: "PASSWORD"}}, "key 1 .* is not the name"),
            ({"base_image_creds": {"USERNAME": "a", "password": PASSWORD}}, "mean PASSWORD"),
            ({"base_image_creds": {"A": "a", 5: PASSWORD}}, "key 2 .* is not the name"),
            ({"base_image_creds": ("zed", PASSWORD)}, 'element 1 .*\n.*{"USERNAME": '),
            ({"base_image_creds": ["USERNAME", PASSWORD]}, "element 2 .* is not the name"),
            ({"base_image_creds": ["USERNAME", [PASSWORD]]}, "element 2 .* is not the name"),
            ({"base_image_creds": PASSWORD}, "a list of keys"),
            ({"env_vars": {"A": 5}}, "A is int"),
            ({"env_vars": [VALUE]}, "dict of text"),
            ({"python": ""}, "python"),
        ):
            with self.subTest(words):
                full = {"base_image": "a", "env_vars": {"A": VALUE}, **arguments}
                error, shown = shown_by((ValueError, TypeError), partial(Image, **full))
                self.assertRegex(str(error), words)
                self.assertIn("reference = <hidden>", shown)
                self.assertNotIn(PASSWORD, shown)
                self.assertNotIn(VALUE, shown)

    def test_what_others_have_is_refused_by_name(self) -> None:
        for name in ("python_packages", "commands", "python_version", "image_id", "dockerfile"):
            with self.assertRaisesRegex(holdfast.NotSupportedError, rf"Image\({name}="):
                Image("a", **{name: ["x"]})
        with self.assertRaisesRegex(TypeError, "'base_imag'"):
            Image("a", base_imag="b")

    def test_fingerprints_are_of_the_definition(self) -> None:
        same = [
            Image("a", base_image_creds={"A": "1", "B": "2"}).fingerprint(),
            Image("a", base_image_creds={"B": "2", "A": "1"}).fingerprint(),
        ]
        self.assertEqual(*same)
        others = [
            Image("b"),
            Image("a"),
            Image("a", base_image_creds={}),
            Image("a", python="x"),
            Image("a", env_vars={"A": "1"}),
            Image("a", base_image_creds={"A": "2", "B": "2"}),
        ]
        self.assertEqual(len({*same, *(image.fingerprint() for image in others)}), 7)
        self.assertIn("{}.{}".format(*sys.version_info[:2]), default_image().base_image)


class Secrets(TestCase):
    def test_names(self) -> None:
        self.assertEqual(Secret.from_name("TOKEN"), Secret("TOKEN"))
        self.assertEqual(repr(Secret("TOKEN")), "Secret('TOKEN')")
        for wrong in ("", "a-b", "1a", "hf_x y", "a" * 200):
            with self.assertRaises(ValueError) as caught:
                Secret(wrong)
            self.assertNotIn("hf_x", str(caught.exception))


class Options(TestCase):
    DEFAULTS = {
        "cpu": 0.125, "memory": 128, "timeout": 3600, "retries": 0, "concurrency": 1,
        "keep_warm": 10, "max_containers": 1, "max_pending": 100, "env": Hidden(None),
        "secrets": (),
    }  # fmt: skip

    def test_defaults_are_the_gateway_s(self) -> None:
        self.assertEqual(
            options(**self.DEFAULTS).as_json(),
            {
                "cpu_millicores": 125, "memory_bytes": 134217728, "timeout_ms": 3600000,
                "retries": 0, "concurrency": 1, "keep_warm_ms": 10000, "max_containers": 1,
                "max_pending": 100, "environment": {}, "secrets": [],
            },
        )  # fmt: skip

    def test_quantities(self) -> None:
        for name, given, field, expected in (
            ("cpu", 2, "cpu_millicores", 2000),
            ("cpu", "500m", "cpu_millicores", 500),
            ("cpu", "1.5", "cpu_millicores", 1500),
            ("memory", 1, "memory_bytes", 1 << 20),
            ("memory", "256", "memory_bytes", 256 << 20),
            ("memory", "1.5Gi", "memory_bytes", 3 << 29),
            ("memory", "2G", "memory_bytes", 2_000_000_000),
            ("timeout", 0.5, "timeout_ms", 500),
            ("keep_warm", 0, "keep_warm_ms", 0),
            ("secrets", ["B", Secret("A"), "B"], "secrets", ["B", "A"]),
        ):
            with self.subTest(name=name, given=given):
                made = options(**{**self.DEFAULTS, name: given}).as_json()
                self.assertEqual(made[field], expected)

    def test_what_is_wrong_is_named(self) -> None:
        for name, wrongs in {
            "cpu": (0, -1, True, "2 cores", "500M", float("nan"), None, "0", 1e9),
            "memory": (0, 1.5, True, "1Q", "-1Gi", "", "1k"),
            "timeout": (0, -1, None, "5", float("inf")),
            "retries": (-1, 1.0, True),
            "concurrency": (0, 5000),
            "keep_warm": (-1,),
            "max_containers": (0,),
            "max_pending": (0,),
            "env": ({"A": 1}, ["A=1"], {"a b": "c"}),
            "secrets": ("TOKEN", Secret("A"), [5], ["a b"]),
            "name": ("", "a b", 5),
            "format": ("yaml", None),
            "image": ("python:3.11",),
        }.items():
            for wrong in wrongs:
                with self.subTest(name=name, wrong=wrong):
                    words = {"secrets": "secret"}.get(name, name)
                    with self.assertRaisesRegex((ValueError, TypeError), words):
                        function(**{name: wrong})

    def test_what_others_have_is_refused_by_name(self) -> None:
        for name in ("gpu", "volumes", "app", "task_policy", "keep_warm_seconds", "headless"):
            with self.assertRaisesRegex(holdfast.NotSupportedError, rf"function\({name}="):
                function(**{name: "x"})
        with self.assertRaisesRegex(TypeError, "no argument 'cpus'"):
            function(cpus=1)
        with self.assertRaises(holdfast.NotSupportedError):
            holdfast.Volume(name="x")

    def test_what_is_no_function(self) -> None:
        def generator():
            yield

        async def later():
            yield

        for wrong, kind in (
            (generator, holdfast.NotSupportedError),
            (later, holdfast.NotSupportedError),
            (5, TypeError),
            (Image("a"), TypeError),
            (function(lambda: 1), TypeError),
        ):
            with self.assertRaises(kind):
                function(wrong)

    def test_a_function_stays_one(self) -> None:
        @function(cpu=1)
        def twice(number: int) -> int:
            """Two times."""
            return 2 * number

        self.assertEqual((twice.__name__, twice.__doc__), ("twice", "Two times."))
        self.assertEqual((twice(2), twice.local(number=3)), (4, 6))
        self.assertIn("twice", repr(twice))
