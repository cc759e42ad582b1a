"""Reads a disk out of a vault, without any of the engine's code.

This program was written from engine/vault/FORMAT.md alone: no source of the engine was read. It is the proof that the text
suffices, and stays one only as long as a change of it begins in that page. Every rule of the page that a reader can check is
checked; the first one that does not hold ends the program with exit code 1 and a line that says which.

    read_segment.py --vault FOLDER (--key-file FILE | --passphrase-file FILE) --segments LIST --size BYTES --output IMAGE

LIST is what a point keeps: a JSON list of {"name", "stored_bytes", "hash"}, oldest first.
"""

import argparse
import json
import re
import struct
import sys
from pathlib import Path

from blake3 import blake3

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    import argon2.low_level
    import zstandard
except ModuleNotFoundError as missing:
    module = missing.name.split(".")[0]
    sys.exit(f"the Python module {module} is missing: apt-get install python3-{module}")

VERSION = 1
TAG, NONCE, SALT, KEY = 16, 12, 32, 32
HEADER, FOOTER = 64, 32
ZERO_EXTENT, FRAME_ENTRY = 24, 64
SEGMENT_LIMIT, FRAME_LIMIT = 64 << 20, 1 << 20
INDEX_COUNTER = 2**64 - 1
SUITE = 1


class Wrong(Exception):
    """Something is not as the page says."""


class Sealed(Wrong):
    """Something that is sealed does not open."""


def must(holds, what):
    if not holds:
        raise Wrong(what)


def opened(key, nonce, sealed, associated, what):
    """AES-256-GCM: the plain text of ciphertext || tag."""
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except InvalidTag:
        raise Sealed(f"{what} does not open: key, place or bytes are not those it was sealed with") from None


def derived(key, salt, info):
    """HKDF-SHA-256 with 32 bytes of output."""
    return HKDF(algorithm=SHA256(), length=KEY, salt=salt, info=info).derive(key)


# The vault and its key


def vault_id(folder):
    record = json.loads((folder / "vault.json").read_text())
    must(record.get("format") == VERSION, f"vault.json: format {record.get('format')} is not {VERSION}")
    must(re.fullmatch("[0-9a-f]{32}", record["id"]), "vault.json: the id is not 32 hex digits")
    return bytes.fromhex(record["id"])


class Secret:
    """What a person holds: the 32 bytes of a key file (kind 1) or a passphrase (kind 2)."""

    def __init__(self, key_file, passphrase_file):
        if key_file:
            text = key_file.read_text().strip()
            must(re.fullmatch("[0-9a-fA-F]{64}", text), "the key file does not hold 64 hex digits")
            self.kind, self.value = 1, bytes.fromhex(text)
        else:
            self.kind, self.value = 2, passphrase_file.read_bytes().split(b"\n")[0].removesuffix(b"\r")

    def wrapping_key(self, salt, parameters, what):
        if self.kind == 1:
            return derived(self.value, salt, b"muster slot key file v1")
        must(len(parameters) >= 12, f"{what}: too short for a passphrase's parameters")
        memory, passes, lanes = struct.unpack_from("<III", parameters)
        must(1 <= passes <= 16 and 1 <= lanes <= 16, f"{what}: {passes} passes, {lanes} lanes")
        must(8 * lanes <= memory <= 1048576, f"{what}: {memory} KiB of memory")
        return argon2.low_level.hash_secret_raw(
            self.value, salt, passes, memory, lanes, KEY, argon2.low_level.Type.ID, version=0x13
        )


def open_slot(slot, vault, secret, what):
    """The data key; None when the slot is one to pass over."""
    must(len(slot) >= 62, f"{what}: {len(slot)} bytes are too few")
    magic, version, kind, _, owner, salt, size = struct.unpack_from("<8sHBB16s32sH", slot)
    must(magic == b"MUSTSLOT", f"{what}: not a key slot")
    must(version == VERSION, f"{what}: format {version} is not {VERSION}")
    must(size <= 1024, f"{what}: {size} bytes of parameters")
    before = 62 + size
    must(len(slot) == before + NONCE + KEY + TAG, f"{what}: {len(slot)} bytes do not fit its parameters")
    if kind != secret.kind or owner != vault:
        return None
    wrapping = secret.wrapping_key(salt, slot[62:before], what)
    return opened(wrapping, slot[before : before + NONCE], slot[before + NONCE :], slot[:before], what)


def data_key(folder, vault, secret):
    """From the first slot that the secret opens."""
    reasons = []
    for number in range(1, 65):
        path = folder / "keys" / f"{number}.slot"
        if not path.exists():
            continue
        try:
            key = open_slot(path.read_bytes(), vault, secret, f"keys/{number}.slot")
        except Wrong as reason:
            reasons.append(str(reason))
            continue
        if key is not None:
            return key
        reasons.append(f"keys/{number}.slot: of another kind, or of another vault")
    raise Wrong("no key slot opens: " + ("; ".join(reasons) or "there is none"))


# Segments


class Segment:
    """One object whose header, footer and index have been found right."""

    def __init__(self, name, stored, vault, key):
        must(HEADER + TAG + FOOTER <= len(stored) <= SEGMENT_LIMIT, f"{name}: {len(stored)} bytes long")
        self.name, self.stored = name, stored
        header, footer = stored[:HEADER], stored[-FOOTER:]
        magic, version, suite, rest, owner, salt = struct.unpack("<8sHB5s16s32s", header)
        must(magic == b"MUSTSEGM", f"{name}: header: not a segment")
        must(version == VERSION, f"{name}: header: format {version} is not {VERSION}")
        must(suite == SUITE, f"{name}: header: suite {suite} is unknown")
        must(rest == bytes(5), f"{name}: header: bytes 11 to 15 are not 0")
        must(owner == vault, f"{name}: header: of another vault")

        index_at, index_size, entries, frames, magic = struct.unpack("<QQII8s", footer)
        must(magic == b"MUSTENDS", f"{name}: footer: not there")
        must(index_at >= HEADER and index_size >= TAG, f"{name}: footer: the index cannot be there")
        must(index_at + index_size == len(stored) - FOOTER, f"{name}: footer: the index does not end where it begins")

        self.key = derived(key, salt, b"muster segment key v1" + name.encode())
        lineage = name.rpartition("/")[0]
        self.identity = struct.pack("<H", VERSION) + counted(lineage) + counted(name)
        sealed = stored[index_at : index_at + index_size]
        associated = self.identity + bytes([2, 0]) + header + footer
        index = opened(self.key, nonce(INDEX_COUNTER), sealed, associated, f"{name}: header, index or footer")
        self.entries = self.parse(index)
        must(len(self.entries) == entries, f"{name}: index: {len(self.entries)} entries, {entries} in the footer")
        self.check_frames(frames, index_at)

    def parse(self, index):
        """The entries in their order: (number, compression, offset, length, ciphertext, at, hash), number None for zeroes."""
        entries, at = [], 0
        while at < len(index):
            what = f"{self.name}: index, entry {len(entries)}"
            if index[at] == 0:
                must(len(index) - at >= ZERO_EXTENT, f"{what}: cut off")
                zero, offset, length = struct.unpack_from("<x7sQQ", index, at)
                must(zero == bytes(7), f"{what}: bytes 1 to 7 are not 0")
                entries.append((None, 0, offset, length, 0, 0, b""))
                at += ZERO_EXTENT
            elif index[at] == 1:
                must(len(index) - at >= FRAME_ENTRY, f"{what}: cut off")
                compression, zero, number, offset, length, size, begin, digest = struct.unpack_from(
                    "<xBHIQIIQ32s", index, at
                )
                must(compression in (0, 1) and zero == 0, f"{what}: compression {compression}, then {zero}")
                must(1 <= length <= FRAME_LIMIT, f"{what}: {length} bytes of disk")
                must(size < length if compression else size == length, f"{what}: {size} bytes hold {length}")
                entries.append((number, compression, offset, length, size, begin, digest))
                at += FRAME_ENTRY
            else:
                raise Wrong(f"{what}: kind {index[at]}")
        return entries

    def check_frames(self, frames, index_at):
        """Each frame has one entry, and they lie without gaps between header and index."""
        stored = sorted((entry for entry in self.entries if entry[0] is not None), key=lambda entry: entry[0])
        must([entry[0] for entry in stored] == list(range(frames)), f"{self.name}: index: not one entry for each frame")
        end = HEADER
        for number, _, _, _, size, begin, _ in stored:
            must(begin == end, f"{self.name}: index: frame {number} begins at {begin}, not at {end}")
            end += size + TAG
        must(end == index_at, f"{self.name}: index: the frames end at {end}, the index begins at {index_at}")

    def frame(self, entry):
        """The plain content of one frame."""
        number, compression, offset, length, size, begin, digest = entry
        what = f"{self.name}: frame {number}"
        associated = self.identity + bytes([1, compression]) + struct.pack("<QI", offset, length)
        plain = opened(self.key, nonce(number), self.stored[begin : begin + size + TAG], associated, what)
        if compression:
            try:
                plain = zstandard.ZstdDecompressor().decompress(plain, max_output_size=length)
            except zstandard.ZstdError as error:
                raise Wrong(f"{what}: not a zstd frame: {error}") from None
        must(len(plain) == length, f"{what}: {len(plain)} bytes, {length} in the index")
        must(blake3(plain) == digest, f"{what}: its BLAKE3 is another")
        return plain

    def lay_over(self, disk):
        for entry in self.entries:
            number, _, offset, length = entry[:4]
            must(offset + length <= len(disk), f"{self.name}: index: {offset} + {length} is beyond the disk")
            disk[offset : offset + length] = bytes(length) if number is None else self.frame(entry)


def counted(text):
    return struct.pack("<I", len(text.encode())) + text.encode()


def nonce(counter):
    return bytes(4) + struct.pack("<Q", counter)


def read(arguments):
    vault = vault_id(arguments.vault)
    key = data_key(arguments.vault, vault, Secret(arguments.key_file, arguments.passphrase_file))
    disk = bytearray(arguments.size)
    for kept in json.loads(arguments.segments.read_text()):
        name = kept["name"]
        parts = name.split("/")
        proper = len(name) <= 512 and all(re.fullmatch("[A-Za-z0-9_-][A-Za-z0-9._-]*", part) for part in parts)
        must(proper and len(parts) > 1, f"{name!r} is no segment's name")
        stored = arguments.vault.joinpath("data", *parts).read_bytes()
        must(len(stored) == kept["stored_bytes"], f"{name}: {len(stored)} bytes, the point says {kept['stored_bytes']}")
        must(blake3(stored).hex() == kept["hash"], f"{name}: the BLAKE3 of the object is not what the point says")
        Segment(name, stored, vault, key).lay_over(disk)
    arguments.output.write_bytes(disk)


def main():
    parser = argparse.ArgumentParser(description="Reads a disk out of a vault, as FORMAT.md says.")
    parser.add_argument("--vault", type=Path, required=True)
    secret = parser.add_mutually_exclusive_group(required=True)
    secret.add_argument("--key-file", type=Path)
    secret.add_argument("--passphrase-file", type=Path)
    parser.add_argument("--segments", type=Path, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    try:
        read(parser.parse_args())
    except (Wrong, OSError, ValueError, KeyError) as error:
        sys.exit(f"wrong: {error}")


if __name__ == "__main__":
    main()
