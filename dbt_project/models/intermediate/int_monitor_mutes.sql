{{ config(materialized='view') }}

-- The rows of mutes.csv as times, each with what is wrong with it.
with mutes as (

    select * from {{ ref('mutes') }}

),

rules as (

    select monitor_name from {{ ref('int_monitor_rules') }}

),

parsed as (

    select
        monitor_name,
        muted_from as muted_from_text,
        muted_until as muted_until_text,
        -- Best effort alone would read '1' as a date.
        {%- for side in ['from', 'until'] %}
        if(
            match(muted_{{ side }}, '^[0-9]{4}-[0-9]{2}-[0-9]{2}'),
            parseDateTimeBestEffortOrNull(muted_{{ side }}, 'UTC'),
            null
        ) as parsed_{{ side }},
        {%- endfor %}
        reason
    from mutes

),

final as (

    select
        monitor_name,
        assumeNotNull(ifNull(parsed_from, toDateTime(0, 'UTC'))) as muted_from,
        assumeNotNull(ifNull(parsed_until, toDateTime(0, 'UTC'))) as muted_until,
        reason,
        concat(monitor_name, ' from ', muted_from_text) as row_name,
        multiIf(
            monitor_name not in (select rules.monitor_name from rules),
            'monitor_name names no rule of monitors.csv or features.csv: correct it, or remove the row',
            parsed_from is null,
            concat(
                'muted_from ', if(muted_from_text = '', 'is empty', concat(muted_from_text, ' is no time')),
                ': write it as 2026-01-31 or 2026-01-31 06:00:00, in UTC'
            ),
            parsed_until is null,
            concat(
                'muted_until ',
                if(muted_until_text = '', 'is empty', concat(muted_until_text, ' is no time')),
                ': write it as 2026-01-31 or 2026-01-31 06:00:00, in UTC; no mute is for ever'
            ),
            parsed_until <= parsed_from, 'muted_until is not after muted_from: exchange or correct them',
            reason = '', 'reason is empty: say why, for whoever wonders at the silence',
            ''
        ) as problem
    from parsed

)

select * from final
