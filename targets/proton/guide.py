"""What only a person can do at Proton, step by step."""

from __future__ import annotations

LOOK = (
    "They exist on this machine only, not at Proton: open Bridge's mailbox `Recovered Messages` "
    "in a mail program and move what you want to keep."
)

CERTIFICATE = (
    "In `protonmail-bridge --cli` type `cert export /some/folder` and set ca_file to the cert.pem that it "
    "writes (its key.pem is not needed: remove it), or set fingerprint to its SHA-256."
)

BRIDGE = (
    (
        "Install Proton Mail Bridge 3.22 or later on this machine (proton.me/mail/bridge; it needs a paid plan) and "
        "start it once as the user that runs the restore: protonmail-bridge --cli"
    ),
    (
        "In Bridge, type `login` and log in to the Proton account that the mail shall go into; then wait until it "
        "has synchronised."
    ),
    (
        "In Bridge, type `info`: write the port of IMAP into the configuration (port = …) and the password, which "
        "is not that of the account, into the file that password_file names."
    ),
    "In Bridge, type `cert export /some/folder` and set ca_file to the cert.pem in it; remove the key.pem.",
    "Leave Bridge with `exit`, then let it run during the restore: protonmail-bridge --noninteractive",
)

SPAM = (
    "The junk mail now lies in Proton's Spam, which Proton empties by itself after 30 days: move what "
    "shall stay to another folder before."
)

DNS = (
    (
        "When the mail is there, point the domain to Proton. Take every value from Proton's admin page "
        "(Settings → Organization → Domain names), which alone is right; as far as known they are:"
    ),
    "MX 10 mail.protonmail.ch and MX 20 mailsec.protonmail.ch, in place of the old ones.",
    "SPF: put include:_spf.protonmail.ch into the one TXT record that begins with v=spf1.",
    (
        "DKIM: CNAME protonmail._domainkey, protonmail2._domainkey and protonmail3._domainkey, each to the address "
        "below domains.proton.ch that Proton's admin page shows for this domain."
    ),
    "Verification: TXT protonmail-verification=… as shown there, before all others.",
)


DRIVE = (
    "Install Proton's command line for Drive (proton.me/download/drive/cli; it is a beta) and log in once, as the "
    "user that runs the restore: proton-drive auth login"
)

NO_DRIVE = (
    "Files cannot be put into Proton Drive from here, so they lie in {path}: open drive.proton.me, or the "
    "Proton Drive program, and upload the folders in it (New → Upload folder)."
)


def recovered(count: int) -> str:
    """Messages that Bridge did not get into the account."""
    return f"Bridge put {count} messages into `Recovered Messages` because Proton did not take them. {LOOK}"
