"""The template on standard input as MiniStack can make it, as JSON.

It refuses types that it does not know; what is left refers to nothing of them, since a broker's address is a parameter.
It looks for a wait condition's creation policy in the template as it came, so that loop is unrolled here, for the brokers
that the first argument names. It knows no Fn::Join in a condition, so those that count brokers are worked out here.

With `broker` as a second argument clients bootstrap from the first broker's address: for a machine whose resolver does not
know MiniStack's load balancers.
"""

import json
import sys

from cfnlint.decode import decode_str

MISSING = {
    "AWS::EC2::Instance",
    "AWS::EC2::NetworkInterface",
    "AWS::EC2::Volume",
}

brokers = sys.argv[1].split(",")
template, problems = decode_str(sys.stdin.read())
if problems:
    sys.exit(f"the template cannot be read: {problems}")
resources = template["Resources"]
found = set()
for name in [name for name in resources if name.startswith("Fn::ForEach::")]:
    kinds = {resource["Type"] for resource in resources[name][2].values()}
    if kinds <= MISSING:
        found |= kinds
        del resources[name]
    elif kinds == {"AWS::CloudFormation::WaitCondition"}:
        ((copy, resource),) = resources.pop(name)[2].items()
        for broker in brokers:
            resources[copy.replace("${Id}", broker)] = resource
if found != MISSING:
    sys.exit(f"the template has no {MISSING - found}")
for condition, least in {"HasTwoBrokers": 2, "HasThreeBrokers": 3}.items():
    if condition not in template["Conditions"]:
        sys.exit(f"the template has no condition {condition}")
    template["Conditions"][condition] = {"Fn::Equals": [str(len(brokers) >= least), "True"]}
if sys.argv[2:] == ["broker"]:
    first = {"Fn::Select": [0, {"Ref": "BrokerAddresses"}]}
    template["Outputs"]["Bootstrap"]["Value"] = {"Fn::Sub": ["${Server}:9092", {"Server": first}]}
json.dump(template, sys.stdout)
