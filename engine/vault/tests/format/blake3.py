"""BLAKE3 in plain Python: the hash mode with its 32 byte output, written from the paper.

O'Connor, Aumasson, Neves, Wilcox-O'Hearn: "BLAKE3, one function, fast everywhere". Slow (about a MiB in some seconds), but
it needs nothing that a system's packages do not have. Run as a program it checks itself with the published test vectors.
"""

import struct
import sys

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
# Which four words of the state each of the eight steps of a round mixes: the columns, then the diagonals.
STEPS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)
ROUNDS = 7
BLOCK, CHUNK = 64, 1024
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
MASK = 0xFFFFFFFF


def compress(chain, block, counter, flags):
    """The compression function, cut to the 8 words that the hash mode uses. The block may be shorter than 64 bytes."""
    message = struct.unpack("<16I", block.ljust(BLOCK, b"\0"))
    state = [*chain, *IV[:4], counter & MASK, counter >> 32, len(block), flags]
    for _ in range(ROUNDS):
        for step, (a, b, c, d) in enumerate(STEPS):
            for word, turn_d, turn_b in ((message[2 * step], 16, 12), (message[2 * step + 1], 8, 7)):
                state[a] = (state[a] + state[b] + word) & MASK
                mixed = state[d] ^ state[a]
                state[d] = (mixed >> turn_d | mixed << (32 - turn_d)) & MASK
                state[c] = (state[c] + state[d]) & MASK
                mixed = state[b] ^ state[c]
                state[b] = (mixed >> turn_b | mixed << (32 - turn_b)) & MASK
        message = [message[at] for at in PERMUTATION]
    return [state[at] ^ state[at + 8] for at in range(8)]


def chunk(data, counter, root):
    """The chaining value of one chunk of at most 1024 bytes."""
    chain = IV
    last = max(0, (len(data) - 1) // BLOCK * BLOCK)
    for at in range(0, last + 1, BLOCK):
        flags = (CHUNK_START if at == 0 else 0) | (CHUNK_END | root if at == last else 0)
        chain = compress(chain, data[at : at + BLOCK], counter, flags)
    return chain


def tree(data, counter, root):
    """The chaining value of the subtree over `data`, whose first chunk has the number `counter`."""
    if len(data) <= CHUNK:
        return chunk(data, counter, root)
    # The left side is the largest power of two of whole chunks that leaves at least one byte for the right side.
    chunks = 1 << ((len(data) - 1) // CHUNK).bit_length() - 1
    left = tree(data[: chunks * CHUNK], counter, 0)
    right = tree(data[chunks * CHUNK :], counter + chunks, 0)
    return compress(IV, struct.pack("<16I", *left, *right), 0, PARENT | root)


def blake3(data):
    """The 32 byte BLAKE3 of some bytes."""
    return struct.pack("<8I", *tree(bytes(data), 0, ROOT))


# From the published test_vectors.json; the input of each length counts 0, 1, ..., 250, 0, 1, ...
VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1023: "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    2048: "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
    3073: "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3",
    5121: "628bd2cb2004694adaab7bbd778a25df25c47b9d4155a55f8fbd79f2fe154cff",
    7169: "a003fc7a51754a9b3c7fae0367ab3d782dccf28855a03d435f8cfe74605e7817",
}


def main():
    for length, expected in VECTORS.items():
        found = blake3(bytes(at % 251 for at in range(length))).hex()
        if found != expected:
            sys.exit(f"blake3: {length} bytes hash to {found}, the published vector is {expected}")


if __name__ == "__main__":
    main()
