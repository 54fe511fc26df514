"""A daemon that does what it is ordered over HTTP and remembers it."""

from dataclasses import dataclass, field

from allocsync.errors import NotHeldError
from allocsync.observe.orders import Orders

TOKEN = "t" * 43


@dataclass
class Ordered:
    """`token` is what it knows, `held` the only generation that there is to approve."""

    token: str = TOKEN
    held: str = "7f3a91c2"
    done: list[str] = field(default_factory=list)

    def orders(self) -> Orders:
        return Orders(
            token=lambda: self.token,
            sync=self._sync,
            reload=lambda: self.done.append("reload"),
            approve=self._approve,
        )

    def _sync(self) -> int:
        self.done.append("sync")
        return 3

    def _approve(self, digest: str, owner: str) -> int:
        if digest != self.held:
            raise NotHeldError("no generation is held: there is nothing to approve")
        self.done.append(f"approve {digest} by {owner}")
        return 7
