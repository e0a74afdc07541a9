"""Templates: definitions with parameters, kept in files."""

from __future__ import annotations

import click

from control_plane.cli import contract
from control_plane.cli.client import new_request_id
from control_plane.cli.commands import command, confirm, yes_option
from control_plane.cli.completing import complete_templates
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.manifests import FIELDS, Document, read_documents
from control_plane.cli.people import name_maker
from control_plane.cli.spec_options import assign
from control_plane.cli.tasks import with_tags
from control_plane.cli.template_views import TEMPLATE

file_option = click.option("-f", "--file", required=True, metavar="FILE", help="YAML of the template; - is stdin.")


def read_template(file: str) -> Document:
    """The one template of a file. Raises CliError."""
    documents = read_documents([file])
    if [document.kind for document in documents] != ["Template"]:
        raise CliError(f"{file} must hold one document, of kind Template", next_command=f"banksman apply -f {file}")
    return documents[0]


def show(inv: Invocation, template: contract.template_pb2.Template, what: str) -> None:
    """Say what became of it; the template itself where it was asked for."""
    inv.say(f"{what} template {template.name}, version {template.version}")
    if inv.output != "table":
        inv.printer.one(template, TEMPLATE)
    elif what == "created":
        inv.printer.write(template.id)


@command("create", examples=("banksman template create -f deploy.yaml",))
@file_option
def create(inv: Invocation, file: str) -> None:
    """Save a template that a file describes."""
    document = read_template(file)
    request = contract.template_pb2.CreateTemplateRequest(
        project=document.project or inv.project, template=document.message, request_id=new_request_id()
    )
    show(inv, inv.client.call(inv.client.templates.CreateTemplate, request, repeatable=True), "created")


@command("list", examples=("banksman template list --tag deploy", "banksman template list -o name"))
@click.option("--prefix", default="", help="Names that begin with this.")
@click.option("--filter", "text", default="", metavar="FILTER", help="Such as: tag : deploy AND public = true.")
@click.option("--tag", multiple=True, metavar="TAG", help="With this tag; repeatable.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
def list_templates(inv: Invocation, prefix: str, text: str, tag: tuple[str, ...], limit: int | None) -> None:
    """List the project's templates: your own and public ones."""
    request = contract.template_pb2.ListTemplatesRequest(project=inv.project, name_prefix=prefix)
    assign(request, "filter", with_tags(text, tag))
    found = inv.client.pages(inv.client.templates.ListTemplates, request, lambda page: page.templates, limit=limit)
    inv.printer.rows(found, TEMPLATE)


@command("get", examples=("banksman template get deploy", "banksman template get deploy --version 2 -o yaml"))
@click.argument("template", shell_complete=complete_templates)
@click.option("--version", type=click.IntRange(1), default=None, help="An older version.")
def get(inv: Invocation, template: str, version: int | None) -> None:
    """Show a template. `export` prints it as a file to edit."""
    request = contract.template_pb2.GetTemplateRequest(project=inv.project, template=template, version=version or 0)
    found = inv.client.call(inv.client.templates.GetTemplate, request, repeatable=True)
    name_maker(inv, found)
    inv.printer.one(found, TEMPLATE)


@command("update", examples=("banksman template update deploy -f deploy.yaml",))
@click.argument("template", shell_complete=complete_templates)
@file_option
def update(inv: Invocation, template: str, file: str) -> None:
    """Make a new version of a template.

    What the file gives changes, the rest stays.
    """
    document = read_template(file)
    project = document.project or inv.project
    asked = contract.template_pb2.GetTemplateRequest(project=project, template=template)
    stored = inv.client.call(inv.client.templates.GetTemplate, asked, repeatable=True)
    request = contract.template_pb2.UpdateTemplateRequest(project=project, template=document.message)
    request.template.id, request.template.etag = stored.id, stored.etag
    request.update_mask.paths.extend(name for name in FIELDS["Template"] if name in document.given)
    show(inv, inv.client.call(inv.client.templates.UpdateTemplate, request, repeatable=False), "updated")


@command("delete", examples=("banksman template delete deploy --yes",))
@click.argument("template", shell_complete=complete_templates)
@yes_option
def delete(inv: Invocation, template: str, yes: bool) -> None:
    """Delete a template with its versions for good.

    Tasks and runs that were made of it stay.
    """
    confirm(inv, f"Delete template {template} and its versions for good?", yes=yes)
    request = contract.template_pb2.DeleteTemplateRequest(project=inv.project, template=template)
    inv.client.call(inv.client.templates.DeleteTemplate, request, repeatable=False)
    inv.say(f"deleted template {template}")
