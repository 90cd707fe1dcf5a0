"""Prints what an object store of backups holds, as JSON. Run by stackctl in the sidecar's image."""

import json
import os
import re
import sys
from urllib.parse import urlparse

import boto3
import botocore.exceptions
from botocore.config import Config

SEGMENT = re.compile(r"^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.\w+)?$")
KEPT = ("backup_name", "begin_time", "end_time", "begin_wal", "end_wal", "timeline", "status", "error",
        "systemid")


def main():
    url = urlparse(os.environ["DESTINATION"])
    prefix = url.path.strip("/")
    prefix = prefix + "/" if prefix else ""
    limits = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 2})
    s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"], config=limits)
    servers = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=url.netloc, Prefix=prefix):
        for item in page.get("Contents", []):
            path = item["Key"][len(prefix):].split("/")
            if len(path) == 4 and path[1] in ("base", "wals"):
                server = servers.setdefault(path[0], {"base": {}, "wals": {}})
                server[path[1]].setdefault(path[2], []).append((path[3], item))
    return {name: read(s3, url.netloc, server) for name, server in servers.items()}


def read(s3, bucket, server):
    backups = []
    for identifier, files in server["base"].items():
        info = [item["Key"] for name, item in files if name == "backup.info"]
        fields = {}
        if info:
            text = s3.get_object(Bucket=bucket, Key=info[0])["Body"].read().decode()
            fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        backup = {key: fields[key] for key in KEPT if fields.get(key, "None") != "None"}
        stored = sum(item["Size"] for name, item in files if name != "backup.info")
        backups.append({"id": identifier, "stored": stored, **backup})
    segments = []
    for files in server["wals"].values():
        for name, item in files:
            match = SEGMENT.match(name)
            if match:
                number = (int(match[2], 16) << 32) | int(match[3], 16)
                segments.append((match[1] + match[2] + match[3], match[1], number, item))
    return {"backups": sorted(backups, key=lambda backup: backup["id"]), "wal": wal(segments)}


def wal(segments):
    if not segments:
        return None
    segments.sort(key=lambda segment: segment[0])
    newest = max(segments, key=lambda segment: segment[3]["LastModified"])
    return {
        "first": segments[0][0],
        "last": segments[-1][0],
        "segments": [segment[0] for segment in segments],
        "stored": sum(segment[3]["Size"] for segment in segments),
        "archived": newest[3]["LastModified"].isoformat(),
    }


def outcome():
    try:
        return {"servers": main()}
    except botocore.exceptions.ClientError as error:
        answer = error.response.get("Error", {})
        return {"error": answer.get("Code", "Unknown"), "message": str(error)}
    except botocore.exceptions.BotoCoreError as error:
        return {"error": type(error).__name__, "message": str(error)}


json.dump(outcome(), sys.stdout)
