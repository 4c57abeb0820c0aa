"""IMAP for sources and targets: the only door to imapclient.

`connect` checks certificates and logs in, `session` knows the server, `wire` speaks raw commands on the same connection,
`reader` streams messages from it, `writer` puts messages onto it.
"""
