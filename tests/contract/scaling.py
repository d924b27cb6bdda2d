"""One account's Region seen by botocore's Auto Scaling and EC2 clients: what the tests of Auto Scaling share."""

from __future__ import annotations

from typing import Any

from tests.contract.conftest import Offline

ENFORCED = "You can't launch instances with IMDSv1 because httpTokensEnforced is enabled for this account."
"""How the refusal of a launch begins that HttpTokensEnforced forbids."""


class Scaling:
    """Clients of one account's Region, and what its group looks like."""

    def __init__(self, aws: Offline, region: str = "eu-west-1") -> None:
        self.aws = aws
        self.ec2 = aws.client("ec2", region=region)
        self.asg = aws.client("autoscaling", region=region)
        self.iam = aws.client("iam")
        self.refused = aws.refused

    def image(self, name: str = "amzn2-ami-kernel*") -> str:
        filters = [{"Name": "name", "Values": [name]}, {"Name": "architecture", "Values": ["x86_64"]}]
        images = self.ec2.describe_images(Owners=["amazon"], Filters=filters)["Images"]
        return str(max(images, key=lambda image: image["CreationDate"])["ImageId"])

    def configuration(self, name: str = "lc", **more: Any) -> str:
        self.asg.create_launch_configuration(
            LaunchConfigurationName=name, ImageId=self.image(), InstanceType="t3.micro", **more
        )
        return name

    def template(self, name: str = "base", **data: Any) -> str:
        data = {"ImageId": self.image(), "InstanceType": "t3.micro", **data}
        made = self.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
        return str(made["LaunchTemplate"]["LaunchTemplateId"])

    def create(self, name: str = "web", size: int = 2, most: int = 10, **more: Any) -> None:
        places = {} if "VPCZoneIdentifier" in more else {"AvailabilityZones": ["eu-west-1a", "eu-west-1b"]}
        self.asg.create_auto_scaling_group(
            **{"AutoScalingGroupName": name, "MinSize": 0, "MaxSize": most, "DesiredCapacity": size, **places, **more}
        )

    def group(self, name: str = "web") -> dict[str, Any]:
        [group] = self.asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        return dict(group)

    def ids(self, name: str = "web") -> list[str]:
        return [each["InstanceId"] for each in self.group(name)["Instances"]]

    def instances(self, name: str = "web") -> list[dict[str, Any]]:
        ids = self.ids(name)
        if not ids:
            return []
        pages = self.ec2.describe_instances(InstanceIds=ids)["Reservations"]
        return [instance for each in pages for instance in each["Instances"]]

    def activities(self, name: str = "web") -> list[dict[str, Any]]:
        return list(self.asg.describe_scaling_activities(AutoScalingGroupName=name)["Activities"])


def tags(instance: dict[str, Any]) -> dict[str, str]:
    """An instance's tags."""
    return {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
