"""One broker's user data, as CloudFormation would make it of the template on standard input.

The argument is JSON: what the template's parameters, the resources that it refers to, and the loop's variable `Id` are.
"""

import json
import re
import sys

from cfnlint.decode import decode_str

template, problems = decode_str(sys.stdin.read())
if problems:
    sys.exit(f"the template cannot be read: {problems}")
given = json.loads(sys.argv[1])


def ref(name):
    parameter = template["Parameters"].get(name, {})
    value = given[name] if name in given else parameter["Default"]
    allowed = parameter.get("AllowedPattern")
    if allowed and not re.fullmatch(allowed, value):
        sys.exit(f"the parameter {name} may not be {value!r}")
    return value.split(",") if parameter.get("Type") == "CommaDelimitedList" else value


def value(node):
    if not isinstance(node, dict):
        return node
    ((function, argument),) = node.items()
    if function == "Ref":
        return ref(argument)
    if function == "Fn::Sub":
        return re.sub(r"\$\{([^!}]+)\}", lambda found: ref(found[1]), argument)
    if function == "Fn::Join":
        between, parts = argument
        return between.join(value(part) for part in (value(parts) if isinstance(parts, dict) else parts))
    if function == "Fn::Base64":
        return value(argument)
    sys.exit(f"the user data uses {function}")


broker = template["Resources"]["Fn::ForEach::Brokers"][2]["Broker${Id}"]
sys.stdout.write(value(broker["Properties"]["UserData"]))
