"""Microsoft 365 through Graph: mail, calendars, contacts, and the files of OneDrive and SharePoint.

Start at `source.GraphSource`. `client` holds the only asynchronous door to the network.
"""
