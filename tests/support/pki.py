# SPDX-License-Identifier: Apache-2.0
"""A certificate authority of the tests' own, by the openssl command."""
import os
import shutil
import subprocess

# SSL_OP_NO_EXTENDED_MASTER_SECRET, which the ssl module does not name.
NO_EXTENDED_MASTER_SECRET = 1

class Authority:
    def __init__(self, directory):
        self.directory = directory
        self.key = directory / "ca.key"
        self.certificate = directory / "ca.pem"
        self._made = {}
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "30", "-subj", "/CN=posthouse test CA",
            "-keyout", self.key, "-out", self.certificate)

    def _openssl(self, *args):
        subprocess.run(["openssl", *map(str, args)], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def issue(self, name, *more_names, days=30):
        """Certificate and key files for a host name."""
        label = "+".join((name, *more_names, str(days)))
        if label in self._made:
            return self._made[label]
        stem = self.directory / f"cert{len(self._made)}"
        key, request = stem.with_suffix(".key"), stem.with_suffix(".csr")
        certificate, extensions = stem.with_suffix(".pem"), stem.with_suffix(".ext")
        names = ",".join(f"DNS:{n}" for n in (name, *more_names))
        extensions.write_text(f"subjectAltName={names},IP:127.0.0.1\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                      "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.certificate,
                      "-CAkey", self.key, "-CAcreateserial", "-days", days,
                      "-extfile", extensions, "-out", certificate)
        if os.geteuid() == 0:
            # The service reads it again at a reload, no longer as root.
            shutil.chown(key, "nobody")
        self._made[label] = (certificate, key)
        return certificate, key
