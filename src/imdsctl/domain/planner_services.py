"""Other services' settings: not written by this tool, so deferred with the command that changes them."""

from __future__ import annotations

from shlex import quote

from imdsctl.domain.observations import ServiceKind, ServiceSeen
from imdsctl.domain.options import HttpTokens, Switch
from imdsctl.domain.plan import Change, Gap, Stage, Surface, change_id
from imdsctl.domain.planner_here import Here


def plan_services(here: Here) -> None:
    """Defer every service's setting that allows IMDSv1 and is decided by the service itself."""
    for service in sorted(here.region.services, key=lambda each: (each.kind, each.resource)):
        if allows_v1(service):
            names = (service.resource, service.name)
            if here.wanted(names, service.tags).services is None:
                continue
            wave = here.wave(names, service.tags)
            here.admit(_change(here, service, wave), here.exemption(names, service.tags))


def service_gaps(here: Here) -> list[Gap]:
    """Services of which nobody can tell what they launch."""
    return [
        Gap(f"{here.region.target}/{each.resource}", f"{each.kind}", each.reason)
        for each in here.region.services
        if each.reason and not (each.options or each.sources or each.group_names or each.instance_ids)
    ]


def allows_v1(service: ServiceSeen) -> bool:
    """Whether the service says itself that IMDSv1 may be used."""
    return service.options.http_tokens is HttpTokens.OPTIONAL and service.options.http_endpoint is not Switch.DISABLED


def _change(here: Here, service: ServiceSeen, wave: int) -> Change:
    return Change(
        id=change_id(here.region.target, Surface.SERVICE, f"{service.kind}/{service.resource}"),
        stage=Stage.LAUNCH_TEMPLATES,
        surface=Surface.SERVICE,
        target=here.region.target,
        resource=service.resource,
        before=service.options.to_aws(),
        after={"HttpTokens": str(HttpTokens.REQUIRED)},
        reason=f"{service.kind} says HttpTokens=optional" + ("" if service.in_use else "; nothing uses it now"),
        risk="software in it that knows only IMDSv1 loses its credentials and metadata",
        held=f"imdsctl does not write this service; next: {_command(service, here.region.target.region)}",
        name=service.name if service.name != service.resource else "",
        wave=here.wave_name(wave),
        evidence="",
        blast_radius=(f"belongs to {service.parent}",) if service.parent else (),
        gate=here.gate(wave),
    )


def _command(service: ServiceSeen, region: str) -> str:
    """The exact next command; operations and members as botocore's models spell them."""
    command = _COMMANDS[service.kind].format(
        name=quote(service.name or service.resource),
        resource=quote(service.resource),
        parent=quote(service.parent or "CLUSTER"),
    )
    before, begun, after = command.partition("`aws ")
    return f"{before}`aws --region {region} {after}" if begun else command


_COMMANDS = {
    ServiceKind.EKS_NODEGROUP: (
        "`aws eks update-nodegroup-version --cluster-name {parent} --nodegroup-name {name} "
        "--launch-template id=lt-...,version=N` with a version that requires tokens; a node group without a launch "
        "template of its own has to be made anew with one"
    ),
    ServiceKind.ECS_CONTAINER_INSTANCE: (
        "`aws ec2 modify-instance-metadata-options --instance-id ID --http-tokens required` for "
        "the instance under {name}"
    ),
    ServiceKind.SAGEMAKER_NOTEBOOK: (
        "stop it, then `aws sagemaker update-notebook-instance --notebook-instance-name {name} "
        "--instance-metadata-service-configuration MinimumInstanceMetadataServiceVersion=2`"
    ),
    ServiceKind.BEANSTALK_ENVIRONMENT: (
        "`aws elasticbeanstalk update-environment --environment-name {name} --option-settings "
        "Namespace=aws:autoscaling:launchconfiguration,OptionName=DisableIMDSv1,Value=true`"
    ),
    ServiceKind.EMR_SECURITY_CONFIGURATION: (
        "a security configuration cannot be changed: `aws emr create-security-configuration --name NAME "
        "--security-configuration ...` with what {name} says and MinimumInstanceMetadataServiceVersion 2, and name it "
        "for the next clusters"
    ),
    ServiceKind.IMAGE_BUILDER_INFRASTRUCTURE: (
        "`aws imagebuilder update-infrastructure-configuration --infrastructure-configuration-arn {resource} "
        "--instance-metadata-options httpTokens=required,httpPutResponseHopLimit=2 ...` with all its other settings"
        ", which the call replaces"
    ),
    ServiceKind.LIGHTSAIL_INSTANCE: (
        "`aws lightsail update-instance-metadata-options --instance-name {name} --http-tokens required`"
    ),
    ServiceKind.APPSTREAM_FLEET: "stop it, then `aws appstream update-fleet --name {name} --disable-imdsv1`",
    ServiceKind.APPSTREAM_APP_BLOCK_BUILDER: (
        "stop it, then `aws appstream update-app-block-builder --name {name} --disable-imdsv1`"
    ),
    ServiceKind.APPSTREAM_IMAGE_BUILDER: (
        "it cannot be changed: delete it and make it anew with "
        "`aws appstream create-image-builder --disable-imdsv1 ...`"
    ),
}
