#!/usr/bin/env python3
"""Writes src/protocol/messages.txt: the facts of Kafka's message formats that build/ makes the codec from.

    tools/messages.py <directory with the jars of a Kafka release> > src/protocol/messages.txt

The jars of a release carry the definitions of every request, response and record as JSON. Only
facts are taken: names, types, versions, tags, defaults. What a line means stands in the head of the
file that is written. Left out: messages with no valid version, and those of share groups and streams
groups, which the broker does not serve.
"""

import glob
import json
import re
import sys
import zipfile

RELEASE = "4.3.1"
JARS = ["kafka-clients", "kafka-metadata", "kafka-group-coordinator", "kafka-transaction-coordinator"]
NOT_SERVED = re.compile("Share|Streams")

HEAD = f"""\
# The facts of the message formats of Apache Kafka {RELEASE}, written by tools/messages.py; build/
# makes the codec from them.
#
# A message:   <kind> <Name> versions=<range> [flexible=<range>] [key=<API key or record id>] [unstable]
# Its structs: struct <Name> versions=<range>       (one level in; fields one level deeper)
# A field:     <Name> <type> <range> [null=<range>] [tag=<tag>:<range>] [default=<value>] [ignorable]
#              [map-key] [flexible=<range>]
#
# A range is `a-b`, `a+` or `a`. `unstable` says that the latest version may still change. A field
# that is not ignorable must have its default where the version does not know it.
"""


def load(text):
    return json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.M))


def definitions(libs):
    for jar in JARS:
        path = glob.glob(f"{libs}/{jar}-{RELEASE}.jar")[0]
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".json"):
                    yield load(archive.read(name).decode())


def default_of(field):
    value = field.get("default")
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return None if text in ("0", "false") else text


def field_lines(field, depth, structs):
    kind = field["type"]
    words = [field["name"], kind, field.get("versions") or field["taggedVersions"]]
    if field.get("nullableVersions"):
        words.append(f"null={field['nullableVersions']}")
    if "tag" in field:
        words.append(f"tag={field['tag']}:{field['taggedVersions']}")
    default = default_of(field)
    if default is not None:
        words.append(f"default={default}")
    if str(field.get("ignorable", "false")).lower() == "true":
        words.append("ignorable")
    if field.get("mapKey"):
        words.append("map-key")
    if field.get("flexibleVersions"):
        words.append(f"flexible={field['flexibleVersions']}")
    yield "  " * depth + " ".join(words)
    if field.get("fields"):
        structs.append((kind.removeprefix("[]"), words[2], field["fields"]))


def message_lines(message):
    words = [message["type"], message["name"], f"versions={message['validVersions']}"]
    flexible = message.get("flexibleVersions", "none")
    if flexible != "none":
        words.append(f"flexible={flexible}")
    if "apiKey" in message:
        words.append(f"key={message['apiKey']}")
    if message.get("latestVersionUnstable"):
        words.append("unstable")
    yield " ".join(words)
    structs = []
    for field in message["fields"]:
        yield from field_lines(field, 1, structs)
    structs += [
        (struct["name"], struct["versions"], struct["fields"])
        for struct in message.get("commonStructs", [])
    ]
    while structs:
        name, versions, fields = structs.pop(0)
        yield f"  struct {name} versions={versions}"
        for field in fields:
            yield from field_lines(field, 2, structs)


def main():
    messages = [
        message
        for message in definitions(sys.argv[1])
        if message["validVersions"] != "none" and not NOT_SERVED.search(message["name"])
    ]
    kinds = ["header", "request", "response", "metadata", "coordinator-key", "coordinator-value", "data"]
    messages.sort(key=lambda m: (kinds.index(m["type"]), m.get("apiKey", -1), m["name"]))
    print(HEAD)
    for message in messages:
        print("\n".join(message_lines(message)))


if __name__ == "__main__":
    main()
