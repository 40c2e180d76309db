{#- What people were told must not vanish: an incident stays here when late events, or a change of its rule,
    undo it. It cannot be derived anew from raw, so a full refresh leaves it alone (decision 0062). -#}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    engine='ReplacingMergeTree(run_version)',
    order_by='breach_id',
    full_refresh=false,
    on_schema_change='append_new_columns',
) }}

{#- The post-hook writes to the ledger, and a first run needs no rules; but the order of the models must be
    known from parsing. -#}
{%- if not execute -%}
    {%- do [ref('int_run_ledger'), ref('int_monitor_rules'), ref('int_monitor_mutes')] -%}
{%- endif -%}
{%- set columns = [
    'breach_id', 'monitor_name', 'model_name', 'model_version', 'metric', 'segment_key', 'segment_value',
    'feature_name', 'granularity', 'comparator', 'threshold', 'min_rows', 'windows_breaching',
    'windows_considered', 'severity', 'actions', 'status', 'reason', 'opened_at', 'last_seen_at',
    'resolved_at', 'muted_until', 'first_window_start', 'last_window_start', 'breaching_window_count',
    'worst_value', 'worst_window_start', 'last_value',
] -%}
{%- set state = 'status, reason, last_seen_at, resolved_at, breaching_window_count, worst_value, severity' -%}

with found as (

    select * from {{ ref('int_breaches_found') }}
    where status in ('open', 'resolved')

),

{% if is_incremental() %}
rules as (

    select * from {{ ref('int_monitor_rules') }}
    where problem = ''

),

mutes as (

    select * from {{ ref('int_monitor_mutes') }}
    where problem = ''

),

stored as (

    select * from {{ this }}
    order by run_version desc
    limit 1 by breach_id

),

reported as (

    select *
    from found
    where
        (breach_id, cityHash64(toString(tuple({{ state }})))) not in (
            select stored.breach_id, cityHash64(toString(tuple({{ state }})))
            from stored
            where not stored.is_retracted
        )

),

vanished as (

    select *
    from stored
    where not is_retracted and breach_id not in (select found.breach_id from found)

),

muted_since as (

    select distinct vanished.breach_id as breach_id
    from vanished
    inner join mutes on vanished.monitor_name = mutes.monitor_name
    where
        vanished.first_window_start < mutes.muted_until
        and vanished.last_seen_at > mutes.muted_from

),

explained as (

    select
        vanished.breach_id as breach_id,
        multiIf(
            ifNull(rules.monitor_name, '') = '', 'rule_removed',
            vanished.model_name != rules.model_name
            or vanished.metric != rules.metric
            or vanished.segment_key != rules.segment_key
            or rules.feature_name not in ('*', vanished.feature_name)
            or vanished.granularity != rules.granularity
            or vanished.comparator != rules.comparator
            or vanished.threshold != rules.threshold
            or vanished.min_rows != rules.min_rows
            or vanished.windows_breaching != rules.windows_breaching
            or vanished.windows_considered != rules.windows_considered, 'rule_changed',
            vanished.breach_id in (select muted_since.breach_id from muted_since), 'muted_since',
            'undone'
        ) as retraction
    from vanished
    left join rules on vanished.monitor_name = rules.monitor_name

),

retracted as (

    select
        vanished.* except (is_retracted, retraction, retracted_at, run_version),
        ifNull(explained.retraction, 'undone') as retraction
    from vanished
    inner join explained on vanished.breach_id = explained.breach_id

),

{% else %}
reported as (

    select * from found

),

{% endif %}
final as (

    select
        {%- for column in columns %}
        {{ column }},
        {%- endfor %}
        toUInt8(0) as is_retracted,
        '' as retraction,
        cast(null, 'Nullable(DateTime(''UTC''))') as retracted_at,
        {{ run_version() }} as run_version
    from reported
    {%- if is_incremental() %}
    union all
    select
        {%- for column in columns %}
        {{ column }},
        {%- endfor %}
        toUInt8(1) as is_retracted,
        retraction,
        toNullable({{ as_of() }}) as retracted_at,
        {{ run_version() }} as run_version
    from retracted
    {%- endif %}

)

select * from final
