# SPDX-License-Identifier: Apache-2.0
"""Verifiers of DKIM signatures that others wrote: dkimpy, libopendkim, mailauth.
Each takes messages and the TXT records there are, {name: text}."""
import ctypes
import ctypes.util
import json
import pathlib
import subprocess

JS = pathlib.Path(__file__).parent.parent / "interop" / "js"


def by_dkimpy(message, records):
    """For each signature of a message True, or what is wrong."""
    import dkim
    known = {name + ".": text.encode() for name, text in records.items()}

    def ask(name, timeout=5):
        return known.get(name.decode() if isinstance(name, bytes) else name)

    def verify(i):
        try:
            return dkim.DKIM(message).verify(idx=i, dnsfunc=ask)
        except dkim.ValidationError as error:
            return str(error)

    count = sum(1 for name, _ in dkim.DKIM(message).headers
                if name.lower() == b"dkim-signature")
    return [verify(i) for i in range(count)]


class OpenDkim:
    """libopendkim, with keys from a file instead of the DNS."""
    SET, METHOD, INFO, FLAGS = 1, 6, 7, 0
    METHOD_FILE, BAD_SIGNATURES_TOO = 1, 0x400

    def __init__(self, records, path):
        path.write_text("".join(f"{n} {t}\n" for n, t in records.items()))
        lib = self.lib = ctypes.CDLL("libopendkim.so.11")
        for name in ("dkim_init", "dkim_verify"):
            getattr(lib, name).restype = ctypes.c_void_p
        lib.dkim_getresultstr.restype = ctypes.c_char_p
        lib.dkim_sig_geterrorstr.restype = ctypes.c_char_p
        self.handle = ctypes.c_void_p(lib.dkim_init(None, None))
        self.option(self.METHOD, ctypes.c_int(self.METHOD_FILE))
        self.option(self.FLAGS, ctypes.c_uint(self.BAD_SIGNATURES_TOO))
        text = ctypes.create_string_buffer(str(path).encode())
        assert lib.dkim_options(self.handle, self.SET, self.INFO, text,
                                ctypes.c_size_t(len(text))) == 0

    def option(self, which, value):
        assert self.lib.dkim_options(self.handle, self.SET, which, ctypes.byref(value),
                                     ctypes.c_size_t(ctypes.sizeof(value))) == 0

    def knows_ed25519(self):
        return bool(self.lib.dkim_libfeature(self.handle, 11) & 1)

    def verify(self, message):
        """The result of each signature, and why it failed."""
        lib, status = self.lib, ctypes.c_int(0)
        d = ctypes.c_void_p(lib.dkim_verify(self.handle, b"test", None,
                                            ctypes.byref(status)))
        assert d, status
        lib.dkim_chunk(d, message, ctypes.c_size_t(len(message)))
        lib.dkim_chunk(d, None, ctypes.c_size_t(0))
        lib.dkim_eom(d, None)
        signatures, count = ctypes.POINTER(ctypes.c_void_p)(), ctypes.c_int(0)
        lib.dkim_getsiglist(d, ctypes.byref(signatures), ctypes.byref(count))
        results = []
        for i in range(count.value):
            s = ctypes.c_void_p(signatures[i])
            lib.dkim_sig_process(d, s)
            passed = lib.dkim_sig_getflags(s) & 4 and lib.dkim_sig_getbh(s) == 0
            results.append((bool(passed), lib.dkim_sig_geterrorstr(
                lib.dkim_sig_geterror(s))))
        lib.dkim_free(d)
        return results


def by_mailauth(files, records, path):
    """For each file the results of its signatures: [["pass", "", selector]]."""
    path.write_text(json.dumps(records))
    out = []
    for at in range(0, len(files), 500):
        got = subprocess.run(["node", JS / "verify.mjs", path, *files[at:at + 500]],
                             capture_output=True, text=True, timeout=600, check=True)
        out += [json.loads(line) for line in got.stdout.splitlines()]
    return out
