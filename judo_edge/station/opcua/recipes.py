"""RecipeManagement: which recipes there are, and making one ready.

Preparing may take as long as a model takes to warm up; a client waits a moment and is told later by the event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from asyncua import Node, ua

from judo_edge.errors import StationError
from judo_edge.station.opcua import types
from judo_edge.station.opcua.basetypes import VISION
from judo_edge.station.opcua.records import external_id, internal_id_of, time_from_text
from judo_edge.station.opcua.space import OWN, Space, boolean, done_in_a_moment, structure, uint32
from judo_edge.station.opcua.types import id_of, is_absent
from judo_edge.station.results import Recipe
from judo_edge.station.users import Role

_V = ua.VariantType


class RecipeManagement:
    """The object RecipeManagement and the folders below it."""

    def __init__(self, space: Space) -> None:
        """Take the space; `prepare` links the methods and adds what the station file names."""
        self._space = space
        self._products = {one.id: one.product for one in space.config.recipes}
        self._nodes: dict[str, Node] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def prepare(self) -> None:
        """Link the methods; add a node for each recipe and product of the station file."""
        node = await self._space.system.get_child([f"{VISION}:RecipeManagement"])
        link, v, none = self._space.link, VISION, structure(types.RecipeIdInternalDataType())
        nothing = (boolean(True), uint32(0), uint32(0), ua.Variant([], _V.ExtensionObject, is_array=True))
        await link(node, f"{v}:GetRecipeListFiltered", Role.OPERATOR, self._list, nothing)
        await link(node, f"{v}:PrepareRecipe", Role.ENGINEER, self._prepare, (none, boolean(False)))
        await link(node, f"{v}:UnprepareRecipe", Role.ENGINEER, self._unprepare, (none,))
        await link(node, f"{v}:PrepareProduct", Role.ENGINEER, self._prepare_product, (none,))
        await link(node, f"{v}:UnprepareProduct", Role.ENGINEER, self._unprepare_product, (none,))
        await link(node, f"{v}:ReleaseRecipeHandle", Role.OPERATOR, self._space.handles.release)
        await self._add_products(await node.get_child([f"{v}:Products"]))
        await self._add_recipes(await node.get_child([f"{v}:Recipes"]))

    async def _add_products(self, folder: Node) -> None:
        for product in sorted({one for one in self._products.values() if one}):
            record = types.ProductDataType(types.ProductIdDataType(Id=ua.String(product)))
            node_id, name = ua.NodeId(f"Products.{product}", OWN), ua.QualifiedName(product, OWN)
            data_type = types.ProductDataType.data_type
            await folder.add_variable(node_id, name, record, _V.ExtensionObject, datatype=data_type)

    async def _add_recipes(self, folder: Node) -> None:
        for name in self._products:
            node_id, recipe_type = ua.NodeId(f"Recipes.{name}", OWN), ua.NodeId(1002, VISION)
            node = await folder.add_object(node_id, ua.QualifiedName(name, OWN), recipe_type)
            await self._drop_unsupported(node)
            self._nodes[name] = node
            await self._write(node, "ExternalId", structure(external_id(name)))
            await self._link_recipe(node, name)

    async def _drop_unsupported(self, node: Node) -> None:
        for child in await node.get_children():
            if (await child.read_browse_name()).Name in ("LinkProduct", "UnlinkProduct", "Handle"):
                await self._space.server.delete_nodes([child], recursive=True)

    async def _link_recipe(self, node: Node, name: str) -> None:
        async def prepare() -> Sequence[ua.Variant]:
            return (boolean(await self._made_ready(name, "") is not None),)

        async def unprepare() -> Sequence[ua.Variant]:
            await self._space.station.unprepare(name)
            return ()

        await self._space.link(node, f"{VISION}:Prepare", Role.ENGINEER, prepare, (boolean(False),))
        await self._space.link(node, f"{VISION}:Unprepare", Role.ENGINEER, unprepare)

    async def show(self, recipes: Sequence[Recipe]) -> None:
        """Show the prepared version of each recipe, or its newest one."""
        chosen: dict[str, Recipe] = {}
        for recipe in recipes:
            if recipe.is_prepared or recipe.external_id not in chosen:
                chosen[recipe.external_id] = recipe
        for name, recipe in chosen.items():
            if (node := self._nodes.get(name)) is not None:
                await self._write(node, "InternalId", structure(internal_id_of(recipe)))
                await self._write(node, "IsPrepared", boolean(recipe.is_prepared))
                await self._write(node, "LastModified", ua.Variant(time_from_text(recipe.created), _V.DateTime))
                product = types.ProductIdDataType(Id=ua.String(self._products[name]))
                products = [product] if self._products[name] else []
                linked = ua.Variant(products, _V.ExtensionObject, is_array=True)
                await self._write(node, "LinkedProducts", linked)

    async def _write(self, node: Node, name: str, value: ua.Variant) -> None:
        await self._space.write(await node.get_child([f"{VISION}:{name}"]), value)

    async def _list(
        self, external: Any, product: Any, tri_state: int, most: int, start: int, timeout: int
    ) -> Sequence[ua.Variant]:
        found = await self._space.station.recipes()
        if name := id_of(external):
            found = tuple(one for one in found if one.external_id == name)
        if name := id_of(product):
            found = tuple(one for one in found if self._products.get(one.external_id) == name)
        if tri_state in (0, 1):
            found = tuple(one for one in found if one.is_prepared == bool(tri_state))
        chosen = found[start : start + most] if most else found[start:]
        ids = ua.Variant([internal_id_of(one) for one in chosen], _V.ExtensionObject, is_array=True)
        is_complete = boolean(start + len(chosen) >= len(found))
        return (is_complete, uint32(len(chosen)), self._space.handles.new(), ids)

    async def _prepare(self, external: Any, internal: Any) -> Sequence[ua.Variant]:
        name = id_of(external) or await self._name_of(id_of(internal))
        recipe = await self._made_ready(name, id_of(internal))
        if recipe is None:
            wanted = internal if not is_absent(internal) else types.RecipeIdInternalDataType()
            return (structure(wanted), boolean(False))
        return (structure(internal_id_of(recipe)), boolean(True))

    async def _made_ready(self, name: str, internal: str) -> Recipe | None:
        """Prepare a recipe; None when that is still going on."""
        return await done_in_a_moment(self._preparing(name, internal), self._tasks)

    async def _preparing(self, name: str, internal: str) -> Recipe:
        return await self._space.station.prepare(name, internal)

    async def _unprepare(self, external: Any, internal: Any) -> Sequence[ua.Variant]:
        name = id_of(external) or await self._name_of(id_of(internal))
        return (structure(internal_id_of(await self._space.station.unprepare(name))),)

    async def _prepare_product(self, product: Any) -> Sequence[ua.Variant]:
        recipe = await self._made_ready(self._recipe_of(id_of(product)), "")
        return (structure(internal_id_of(recipe) if recipe else types.RecipeIdInternalDataType()),)

    async def _unprepare_product(self, product: Any) -> Sequence[ua.Variant]:
        recipe = await self._space.station.unprepare(self._recipe_of(id_of(product)))
        return (structure(internal_id_of(recipe)),)

    def _recipe_of(self, product: str) -> str:
        for recipe, made in self._products.items():
            if product and made == product:
                return recipe
        raise StationError(f"no recipe for product {product!r}", "a product of the station file", number=-41)

    async def _name_of(self, internal: str) -> str:
        for recipe in await self._space.station.recipes():
            if internal and recipe.internal_id == internal:
                return recipe.external_id
        raise StationError(f"no recipe version {internal!r}", "an ExternalId or a known InternalId", number=-42)
