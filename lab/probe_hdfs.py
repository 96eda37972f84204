"""Make a folder on HDFS, write a file, read it back and delete both; run as a script with the URL.

A process of its own, as the client has no time-outs: to a paused NameNode it would wait for ever.
"""

import json
import sys

from hdfs_native import Client, WriteOptions

CONTENT = b"ready?"


def main() -> None:
    url, folder, config = sys.argv[1:]
    client = Client(url, config=json.loads(config))
    client.mkdirs(folder)
    with client.create(f"{folder}/file", WriteOptions(overwrite=True)) as writer:
        writer.write(CONTENT)
    with client.read(f"{folder}/file") as reader:
        answer = reader.read()
    client.delete(folder, recursive=True)
    if answer != CONTENT:
        sys.exit(f"wrote {CONTENT!r}, read {answer!r}")


if __name__ == "__main__":
    main()
