"""Commands for the catalogue: features, listings, and what is brought in from elsewhere."""

import argparse

import msgspec

from mainstem import curator
from mainstem.catalogue import Feature, Filters, Gate, Group, Listing, PageRequest, Status
from mainstem.cli.commands import DONE, Commands, add_command, add_group, count, show, show_json, show_table
from mainstem.clock import rfc3339
from mainstem.identity import OPERATOR
from mainstem.settings import Settings

_REFUSED_SHOWN = 20


def add_flag(commands: Commands) -> None:
    flags = add_group(
        commands, "flag", "switch features on and off", "Switch features on and off, for all or for some."
    )
    for name, run, sentence in (
        ("enable", _enable_flag, "switch a feature on for everybody, or for those who are named"),
        ("disable", _disable_flag, "switch a feature off for everybody, or for those who are named"),
    ):
        command = add_command(flags, name, run, sentence, f"{sentence.capitalize()}; a running server knows at once.")
        command.add_argument("name", metavar="NAME", help="the feature's name, such as maintenance_mode")
        command.add_argument("--actor", metavar="User:ID", help="one account")
        command.add_argument("--group", metavar="GROUP", help=", ".join(Group))
        command.add_argument("--percentage-of-actors", metavar="N", type=float, help="so many of a hundred accounts")
        command.add_argument("--percentage-of-time", metavar="N", type=float, help="so many of a hundred requests")
    add_command(flags, "list", _list_flags, "list the features", "List the features, and for whom each is on.")


def add_listing(commands: Commands) -> None:
    listings = add_group(
        commands, "listing", "look after the catalogue", "Look after the catalogue's listings, as an administrator may."
    )
    found = add_command(
        listings, "list", _list_listings, "list listings", "List listings, pinned ones first, then the newest."
    )
    found.add_argument("--status", choices=list(Status), metavar="STATUS", help=", ".join(Status))
    found.add_argument("--archived", action="store_true", help="what is in the archive, instead of what is not")
    found.add_argument("--search", metavar="TEXT", help="only those that have this in one of their texts")
    found.add_argument("--limit", type=count, default=100, metavar="N", help="how many at most; 100 if not given")
    for name, sentence in (
        ("archive", "put listings into the archive"),
        ("unarchive", "take listings out of the archive"),
        ("pin", "put listings on top of lists"),
        ("unpin", "have listings on top of lists no longer"),
        ("delete", "delete listings for good"),
    ):
        command = add_command(
            listings, name, _change_listings, sentence, f"{sentence.capitalize()}; who follows them is told."
        )
        command.add_argument("ids", metavar="ID", type=count, nargs="+", help="their numbers")
        command.set_defaults(action=name)


def add_import(commands: Commands) -> None:
    imports = add_group(commands, "import", "bring in what others have", "Bring in what other programs have.")
    wall = add_command(
        imports,
        "streamwall",
        _import_streamwall,
        "import the streams of a Streamwall",
        "Import the streams of a Streamwall, recognised by their links: known ones are changed, others are made.",
    )
    wall.add_argument("place", metavar="FILE|URL", help="its JSON")
    wall.add_argument("--as", dest="owner", metavar="EMAIL", required=True, help="whose the new ones are")
    wall.add_argument("--skip-known", action="store_true", help="leave those alone whose link is there already")
    wall.add_argument("--dry-run", action="store_true", help="tell what would become of them, and write nothing")
    wall.add_argument("--offset", type=int, default=0, metavar="N", help="leave out the first N")
    wall.add_argument("--limit", type=count, metavar="N", help="take N at most")


# What they do


def _enable_flag(asked: argparse.Namespace, settings: Settings) -> int:
    return _show_flag(
        asked, curator.at_desk(settings, lambda desk: desk.flags.enable(OPERATOR, asked.name, _gate(asked)))
    )


def _disable_flag(asked: argparse.Namespace, settings: Settings) -> int:
    return _show_flag(
        asked, curator.at_desk(settings, lambda desk: desk.flags.disable(OPERATOR, asked.name, _gate(asked)))
    )


def _gate(asked: argparse.Namespace) -> Gate:
    return Gate(asked.actor, asked.group, asked.percentage_of_actors, asked.percentage_of_time)


def _show_flag(asked: argparse.Namespace, feature: Feature) -> int:
    if asked.json:
        show_json(_feature_view(feature))
    else:
        show(f"{feature.name} is {feature.state}{_for_whom(feature)}.")
    return DONE


def _list_flags(asked: argparse.Namespace, settings: Settings) -> int:
    features = curator.at_desk(settings, lambda desk: desk.flags.all())
    if asked.json:
        show_json([_feature_view(one) for one in features])
    else:
        show_table(("name", "state", "for"), [(one.name, one.state, _for_whom(one).strip()) for one in features])
    return DONE


def _list_listings(asked: argparse.Namespace, settings: Settings) -> int:
    statuses = None if asked.status is None else frozenset({Status(asked.status)})
    filters = Filters(statuses=statuses, is_archived=asked.archived, search=asked.search)
    wanted = PageRequest(per_page=asked.limit, filters=filters)
    page = curator.at_desk(settings, lambda desk: desk.listings.page(OPERATOR, wanted))
    if asked.json:
        show_json({"total": page.total, "listings": [_listing_view(one) for one in page.listings]})
    else:
        show_table(
            ("id", "status", "pinned", "source", "link"),
            [(str(one.id), one.status, "yes" if one.is_pinned else "", one.source, one.link) for one in page.listings],
        )
    return DONE


def _change_listings(asked: argparse.Namespace, settings: Settings) -> int:
    curator.at_desk(settings, lambda desk: curator.change_listings(desk, asked.action, asked.ids))
    if asked.json:
        show_json({"ids": asked.ids, "action": asked.action})
    else:
        show(f"Done for {len(asked.ids)}.")
    return DONE


def _import_streamwall(asked: argparse.Namespace, settings: Settings) -> int:
    wanted = curator.StreamwallImport(
        asked.place, asked.owner, asked.skip_known, asked.dry_run, max(asked.offset, 0), asked.limit
    )
    outcome = curator.at_desk(
        settings,
        lambda desk: curator.import_streamwall(desk, wanted, allow_private=settings.check_allow_private),
    )
    if asked.json:
        show_json({"dry_run": asked.dry_run, **msgspec.structs.asdict(outcome)})
        return DONE
    counts = {name: count for name, count in msgspec.structs.asdict(outcome).items() if isinstance(count, int)}
    counts["refused"] = len(outcome.refused)
    would = "Would be: " if asked.dry_run else ""
    show(would + ", ".join(f"{name} {count}" for name, count in counts.items()))
    for row in outcome.refused[:_REFUSED_SHOWN]:
        show(f"row {row.index}: {', '.join(row.errors)}")
    return DONE


def _listing_view(listing: Listing) -> dict[str, object]:
    return {
        "id": listing.id,
        "source": listing.source,
        "link": listing.link,
        "status": listing.status,
        "is_pinned": listing.is_pinned,
        "is_archived": listing.is_archived,
        "created_at": rfc3339(listing.created_us),
    }


def _feature_view(feature: Feature) -> dict[str, object]:
    return {
        "name": feature.name,
        "state": feature.state,
        "boolean": feature.boolean,
        "actors": sorted(feature.actors),
        "groups": sorted(feature.groups),
        "percentage_of_actors": feature.percentage_of_actors,
        "percentage_of_time": feature.percentage_of_time,
    }


def _for_whom(feature: Feature) -> str:
    """Which gates of a feature are open, beside the one for all."""
    shares = {"accounts": feature.percentage_of_actors, "requests": feature.percentage_of_time}
    gates = [
        *sorted(feature.groups),
        *sorted(feature.actors),
        *(f"{share:g} % of {what}" for what, share in shares.items() if share),
    ]
    return f" for {', '.join(gates)}" if gates else ""
