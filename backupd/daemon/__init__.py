"""`backupd run`: the verbs, over and over, for years.

`service` is the process: signals, reloading, systemd. `engine` is the schedule of one configuration;
`rounds` are the jobs that concern no single account; `attention` lets a job be stopped and watched
from outside; `history` keeps what the last runs did; `events` tells those who asked to be told;
`evacuation` is for the day itself; `units` writes what systemd reads.
"""
