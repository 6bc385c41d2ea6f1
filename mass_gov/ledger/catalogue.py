"""PostgreSQL: what the catalogue says of a ledger's schema, in words that do not depend on the server's version.

Rules: everything by which rows could be kept out, changed or added behind the log's back is described: tables with
their columns and options, constraints, indexes, triggers, rules, policies, functions with their bodies and settings,
and every privilege beyond what `privileges` grants. Descriptions are put together here from catalogue columns that mean
the same from PostgreSQL 15 to 18, and where PostgreSQL prints a definition itself, by the functions that it promises to
keep readable. Names of constraints that PostgreSQL invents per version (NOT NULL has them since 18) are left out;
`NOT NULL` stands with its column.

What to compare with is recorded (`recorded`), once, from what the migrations make: an auditor may not create a scratch
schema on the operator's server, and a server's own copy would prove nothing about that server. A test migrates a fresh
database and holds the record to it.
"""

from __future__ import annotations

import json

from sqlalchemy import text
from sqlalchemy.engine import Connection

from mass_gov.config_data import data_folder
from mass_gov.ledger.privileges import ORDINARY, ORDINARY_PRIVILEGES, READ_ONLY
from mass_gov.ledger.schema import POSTGRES_SCHEMA

RECORD = "postgresql.json"
"""In the folder of migrations: description of each object of the newest schema, by its kind and name."""

_RELATION = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema"
_TABLES = f"""
SELECT 'table ' || c.relname, concat_ws(' ', c.relkind, c.relpersistence,
    CASE WHEN c.relrowsecurity THEN 'row security' END, CASE WHEN c.relhasrules THEN 'rules' END,
    CASE WHEN c.relispartition THEN 'partition' END,
    CASE WHEN EXISTS (SELECT 1 FROM pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent)) THEN 'inherits' END,
    '(' || (SELECT string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
        CASE WHEN co.collname <> 'default' THEN 'collate ' || co.collname END,
        CASE WHEN a.attnotnull THEN 'not null' END, 'default ' || pg_get_expr(d.adbin, d.adrelid),
        nullif(a.attidentity::text || a.attgenerated::text, '')), ', ' ORDER BY a.attnum)
        FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        LEFT JOIN pg_collation co ON co.oid = a.attcollation
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) || ')')
{_RELATION} AND c.relkind NOT IN ('i', 'I', 't')"""  # noqa: S608 - put together from constants
_CONSTRAINTS = """
SELECT 'constraint ' || c.relname || '.' || k.conname,
    pg_get_constraintdef(k.oid) || CASE WHEN k.convalidated THEN '' ELSE ' not validated' END
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND k.contype <> 'n'"""
_INDEXES = f"""
SELECT 'index ' || c.relname, pg_get_indexdef(c.oid) || CASE WHEN i.indisvalid THEN '' ELSE ' invalid' END
{_RELATION.replace("WHERE", "JOIN pg_index i ON i.indexrelid = c.oid WHERE")}"""
_TRIGGERS = f"""
SELECT 'trigger ' || t.tgname || ' on ' || c.relname, pg_get_triggerdef(t.oid) || CASE t.tgenabled
    WHEN 'A' THEN ' (always)' WHEN 'O' THEN ' (not for replicas)' WHEN 'R' THEN ' (replicas only)' ELSE ' (off)' END
{_RELATION.replace("WHERE", "JOIN pg_trigger t ON t.tgrelid = c.oid WHERE")}"""
_RULES = f"""
SELECT 'rule ' || r.rulename || ' on ' || c.relname, pg_get_ruledef(r.oid)
{_RELATION.replace("WHERE", "JOIN pg_rewrite r ON r.ev_class = c.oid WHERE")}"""
_POLICIES = f"""
SELECT 'policy ' || p.polname || ' on ' || c.relname,
    concat_ws(' ', p.polcmd, pg_get_expr(p.polqual, c.oid), pg_get_expr(p.polwithcheck, c.oid))
{_RELATION.replace("WHERE", "JOIN pg_policy p ON p.polrelid = c.oid WHERE")}"""
_FUNCTIONS = """
SELECT 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
    concat_ws(' ', p.prokind, pg_get_function_result(p.oid), l.lanname, p.provolatile,
    CASE WHEN p.prosecdef THEN 'security definer' END, array_to_string(p.proconfig, ' '), p.prosrc)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE n.nspname = :schema"""
_DESCRIPTIONS = (_TABLES, _CONSTRAINTS, _INDEXES, _TRIGGERS, _RULES, _POLICIES, _FUNCTIONS)

_OWNERS = """
SELECT 'table ' || c.relname, pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relkind NOT IN ('i', 'I', 't') AND c.relowner <> n.nspowner
UNION ALL SELECT 'function ' || p.proname, pg_get_userbyid(p.proowner)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = :schema AND p.proowner <> n.nspowner"""
_PRIVILEGES = f"""
SELECT 'table', c.relname, a.grantee, a.privilege_type, a.is_grantable
{_RELATION.replace("WHERE", "CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE")} AND a.grantee <> c.relowner
UNION ALL SELECT 'column', c.relname || '.' || t.attname, a.grantee, a.privilege_type, a.is_grantable
FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL aclexplode(t.attacl) a WHERE n.nspname = :schema AND a.grantee <> c.relowner
UNION ALL SELECT 'function', p.proname, a.grantee, a.privilege_type, a.is_grantable
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
WHERE n.nspname = :schema AND a.grantee <> p.proowner
UNION ALL SELECT 'schema', n.nspname, a.grantee, a.privilege_type, a.is_grantable
FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a WHERE n.nspname = :schema AND a.grantee <> n.nspowner
"""  # noqa: S608 - put together from constants
_CALLABLE = frozenset({"append", "lock_head"})


def describe(connection: Connection) -> dict[str, str]:
    """Every object of the schema and what it is, by its kind and name; privileges only beyond those granted."""
    found: dict[str, str] = {}
    for query in _DESCRIPTIONS:
        for name, what in connection.execute(text(query), {"schema": POSTGRES_SCHEMA}):
            found[str(name)] = str(what)
    return found | _strangers(connection)


def recorded() -> dict[str, str]:
    """What `describe` says of a schema that the migrations made, and nobody touched."""
    record: dict[str, str] = json.loads((data_folder("migrations") / RECORD).read_text("utf-8"))
    return record


def _strangers(connection: Connection) -> dict[str, str]:
    """What belongs to another than the schema's owner, and privileges beyond those granted."""
    schema = {"schema": POSTGRES_SCHEMA}
    found = {f"{name}, its owner": str(owner) for name, owner in connection.execute(text(_OWNERS), schema)}
    names = {int(oid): str(name) for oid, name in connection.execute(text("SELECT oid, rolname FROM pg_roles"))}
    for kind, name, grantee, privilege, grantable in connection.execute(text(_PRIVILEGES), schema):
        if grantable or not _granted(str(kind), str(name), str(privilege), public=int(grantee) == 0):
            who = "PUBLIC" if int(grantee) == 0 else names.get(int(grantee), str(grantee))
            found[f"privilege {privilege} on {kind} {name} of {who}"] = "granted" + " with grant option" * bool(
                grantable
            )
    return found


def _granted(kind: str, name: str, privilege: str, *, public: bool) -> bool:
    """Whether a privilege of somebody else than the owner is one that `privileges` grants, or less."""
    if kind == "function":
        return name in _CALLABLE and not public
    if kind == "schema":
        return privilege == "USAGE"
    if name in READ_ONLY:
        return privilege == "SELECT"
    return name in ORDINARY and privilege in ORDINARY_PRIVILEGES and not (public and privilege != "SELECT")
