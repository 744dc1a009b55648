"""Who may do what in the catalogue. Pure.

Readers read, editors make things and change their own, administrators do everything. A credential without the scope to
read, or one that is limited to some topics, has no part in it.
"""

from mainstem.catalogue.model import NotAllowed
from mainstem.identity import Principal, Role, Scope
from mainstem.ids import AccountId


def require_reader(principal: Principal) -> None:
    """Raises NotAllowed."""
    if Scope.EVENTS_READ not in principal.scopes or principal.topics is not None:
        raise NotAllowed


def require_maker(principal: Principal) -> None:
    """Raises NotAllowed."""
    require_reader(principal)
    if principal.role is Role.DEFAULT:
        raise NotAllowed


def require_change(principal: Principal, owner: AccountId) -> None:
    """Raises NotAllowed unless the principal may change what this account owns."""
    require_maker(principal)
    if principal.role is not Role.ADMIN and principal.account != owner:
        raise NotAllowed


def require_administrator(principal: Principal) -> None:
    """Raises NotAllowed."""
    require_reader(principal)
    if principal.role is not Role.ADMIN:
        raise NotAllowed


def sees_archive(principal: Principal) -> bool:
    """Whether lists have archived listings for this principal."""
    return principal.role is Role.ADMIN
