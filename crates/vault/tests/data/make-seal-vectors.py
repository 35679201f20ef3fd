"""Computes seal-vectors.txt with another implementation of every primitive (pyca/cryptography).

Run with no arguments; it prints the file. The vectors pin the format: a change of one byte in
what is sealed, bound or derived fails the test that reads them.
"""
import hashlib
import hmac
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def fields(domain, *parts):
    out = b""
    for part in (domain.encode(), *parts):
        out += struct.pack("<I", len(part)) + part
    return out


def derive(key, salt, info):
    return HKDF(hashes.SHA256(), 32, salt, info).derive(key)


def key_id(key):
    return hmac.new(key, b"holdfast/vault/key-id/v1", hashlib.sha256).digest()[:16]


def seal(key, vault, workspace, secret, version, name, kind, scope, salt, nonce, plaintext):
    context = fields(
        "holdfast/vault/context/v1", b"\x01", vault, workspace, secret, name.encode(),
        kind.encode(), scope.encode(), struct.pack("<q", version), key_id(key),
    )
    binding = hashlib.sha256(context).digest()
    header = (
        b"\x01\x01" + key_id(key) + secret + struct.pack("<I", version) + binding + salt + nonce
        + struct.pack("<I", len(plaintext))
    )
    version_key = derive(key, salt, b"holdfast/vault/version-key/v1" + binding)
    aad = fields("holdfast/vault/secret/v1", header, context)
    return header + AESGCMSIV(version_key).encrypt(nonce, plaintext, aad)


def uuid7(last):
    return bytes.fromhex("0198f3a2c4d87b61a5e0c3f49d2b7e") + bytes([last])


CASES = [
    (1, "oci-registry-ghcr-io", "basic", "ghcr.io", b"hunter2"),
    (4294967295, "a", "token", "", b""),
    (7, "oci-registry-gcr-io", "gcp", "gcr.io/my-project", bytes(range(256)) * 5),
]

for number, (version, name, kind, scope, plaintext) in enumerate(CASES, start=1):
    key = bytes([number]) * 32
    vault, workspace, secret = bytes([0x10 + number]) * 16, uuid7(number), uuid7(0x40 + number)
    salt, nonce = bytes([0x20 + number]) * 32, bytes([0x30 + number]) * 12
    blob = seal(key, vault, workspace, secret, version, name, kind, scope, salt, nonce, plaintext)
    print(f"key {key.hex()}")
    print(f"vault {vault.hex()}")
    print(f"workspace {workspace.hex()}")
    print(f"secret {secret.hex()}")
    print(f"version {version}")
    print(f"name {name}")
    print(f"kind {kind}")
    print(f"scope {scope}")
    print(f"salt {salt.hex()}")
    print(f"nonce {nonce.hex()}")
    print(f"plaintext {plaintext.hex()}")
    print(f"sealed {blob.hex()}")
    print()
