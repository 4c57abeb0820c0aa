"""Mail from any IMAP server: streamed, resumed, read-only; Exchange Online by XOAUTH2."""
