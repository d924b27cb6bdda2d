"""Reading notebook instances.

Source: SageMaker API Reference, ListNotebookInstances (the list does not say the metadata service's version),
DescribeNotebookInstance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.constraints import check_members, check_range, check_text
from imdsctl.local.pages import InvalidToken, page
from imdsctl.local.sagemaker.errors import invalid, not_found
from imdsctl.local.sagemaker.generator import first_notebooks
from imdsctl.local.sagemaker.state import IN_SERVICE, STATUSES, Notebook, SagemakerState

RESULTS_MAX = 100
RESULTS_USUAL = 10
NAME = r"[a-zA-Z0-9](-*[a-zA-Z0-9])*"


def sagemaker(call: Call) -> SagemakerState:
    """The caller's SageMaker in the call's Region."""
    return call.world.kept(call.account_id, call.region, first_notebooks)


def check_name(name: str) -> None:
    """Raises ValidationException."""
    check_text(name, "notebookInstanceName", invalid, length_max=63, pattern=NAME)


def the_notebook(call: Call) -> Notebook:
    """The notebook instance that a request names. Raises ValidationException."""
    name = call.params["NotebookInstanceName"]
    check_name(name)
    found = next((each for each in sagemaker(call).present(call.now) if each.name == name), None)
    if found is None:
        raise not_found()
    return found


_SORTS: Mapping[str, Callable[[Notebook, datetime], Any]] = {
    "Name": lambda notebook, now: notebook.name,
    "CreationTime": lambda notebook, now: notebook.created,
    "Status": lambda notebook, now: notebook.status_at(now),
}


def list_notebook_instances(call: Call) -> Mapping[str, Any]:
    """The notebook instances that every given condition lets through, without their metadata service's version."""
    params = call.params
    sort, order, status = params.get("SortBy") or "Name", params.get("SortOrder") or "Ascending", "StatusEquals"
    check_members([sort], "sortBy", invalid, _SORTS)
    check_members([order], "sortOrder", invalid, ("Ascending", "Descending"))
    check_members([params[status]] if params.get(status) else [], "statusEquals", invalid, STATUSES)
    check_range(params.get("MaxResults"), "maxResults", invalid, 1, RESULTS_MAX)
    found = [each for each in sagemaker(call).present(call.now) if _wanted(each, params, call.now)]
    found.sort(key=lambda each: (_SORTS[sort](each, call.now), each.name), reverse=order == "Descending")
    asked = {name: value for name, value in params.items() if name not in ("NextToken", "MaxResults")}
    place = f"{call.action}/{call.account_id}/{call.region}/{sorted(asked.items())}"
    try:
        part, token = page(found, params.get("NextToken") or None, params.get("MaxResults") or RESULTS_USUAL, of=place)
    except InvalidToken:
        raise invalid("The NextToken is not valid.") from None
    return {"NotebookInstances": [_summary(each, call.now) for each in part], "NextToken": token}


def _wanted(notebook: Notebook, params: Mapping[str, Any], now: datetime) -> bool:
    if any(
        params.get(name)
        for name in (
            "NotebookInstanceLifecycleConfigNameContains",
            "DefaultCodeRepositoryContains",
            "AdditionalCodeRepositoryEquals",
        )
    ):
        return False  # none has any
    return (
        (params.get("NameContains") or "").lower() in notebook.name.lower()
        and params.get("StatusEquals") in (None, notebook.status_at(now))
        and _between(notebook.created, params.get("CreationTimeAfter"), params.get("CreationTimeBefore"))
        and _between(notebook.modified, params.get("LastModifiedTimeAfter"), params.get("LastModifiedTimeBefore"))
    )


def _between(moment: datetime, after: datetime | None, before: datetime | None) -> bool:
    return (after is None or moment > _aware(after)) and (before is None or moment < _aware(before))


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _summary(notebook: Notebook, now: datetime) -> dict[str, Any]:
    status = notebook.status_at(now)
    return {
        "NotebookInstanceName": notebook.name,
        "NotebookInstanceArn": notebook.arn,
        "NotebookInstanceStatus": status,
        "Url": _url(notebook) if status == IN_SERVICE else None,
        "InstanceType": notebook.settings["InstanceType"],
        "CreationTime": notebook.created,
        "LastModifiedTime": notebook.modified,
    }


def describe_notebook_instance(call: Call) -> Mapping[str, Any]:
    """One notebook instance, with the lowest version of the metadata service that it allows."""
    notebook = the_notebook(call)
    return {**notebook.settings, **_summary(notebook, call.now)}


def _url(notebook: Notebook) -> str:
    region = notebook.arn.split(":")[3]
    return f"{notebook.name.lower()}.notebook.{region}.sagemaker.aws"


OPERATIONS = {
    "ListNotebookInstances": Operation(list_notebook_instances),
    "DescribeNotebookInstance": Operation(describe_notebook_instance),
}
