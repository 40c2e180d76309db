{#- What rules find as of now: their incidents, windows that breach while they are muted, and the rules that
    could not be evaluated. `rules`, `windows` and `mutes` are relations of the columns of int_monitor_rules,
    int_monitored_windows and int_monitor_mutes. -#}
{% macro breaches_found(rules, windows, mutes) -%}
{%- set rule_columns = [
    'monitor_name', 'model_name', 'metric', 'segment_key', 'granularity', 'comparator', 'threshold',
    'min_rows', 'windows_breaching', 'windows_considered', 'severity', 'actions',
] | join(', ') -%}
{%- set series_columns = 'model_version, segment_value, feature_name' -%}

with rules as (

    select * from {{ rules }}

),

models as (

    select model_name, active_version, last_predicted_at from {{ ref('dim_models') }}

),

monitored_windows as (

    select * from {{ windows }}

),

-- Rules that are muted now: what of theirs is open stays so, in silence.
muted_now as (

    select monitor_name as muted_monitor, max(muted_until) as silent_until
    from {{ mutes }}
    where problem = '' and {{ as_of() }} >= muted_from and {{ as_of() }} < muted_until
    group by monitor_name

),

-- One row per rule, model version, segment and feature, with its evaluated windows in order:
-- (window_start, window_end, value, is_breaching). A rule fires at a window when enough of the last
-- ones breach; windows that could not be evaluated are not among them.
series as (

    select
        {{ rule_columns }},
        {{ series_columns }},
        arraySort(evaluated_window -> evaluated_window.1, groupArray(
            (window_start, window_end, assumeNotNull(metric_value), is_breaching)
        )) as evaluated,
        arrayEnumerate(evaluated) as positions,
        arrayCumSum(evaluated.4) as breaching_so_far,
        arrayMap(
            position -> breaching_so_far[position]
            - if(position > windows_considered, breaching_so_far[position - windows_considered], 0)
            >= windows_breaching,
            positions
        ) as is_firing
    from monitored_windows
    where obstacle = ''
    group by {{ rule_columns }}, {{ series_columns }}

),

-- An incident lasts from the window at which its rule fires to the one at which it does so no more.
incidents as (

    select
        {{ rule_columns }},
        {{ series_columns }},
        evaluated,
        toInt64(arrayJoin(arrayFilter(
            position -> is_firing[position] and not (position > 1 and is_firing[position - 1]), positions
        ))) as opening,
        arrayFirstIndex(
            (is_firing_here, position) -> position > opening and not is_firing_here, is_firing, positions
        ) as resolving,
        arrayFilter(
            position -> evaluated[position].4
            and position > opening - windows_considered
            and (resolving = 0 or position < resolving),
            positions
        ) as breaching_positions,
        arrayMap(position -> evaluated[position].3, breaching_positions) as breaching_values,
        if(
            comparator in ('>', '>='), arrayMax(breaching_values), arrayMin(breaching_values)
        ) as worst_value
    from series

),

dated as (

    select
        *,
        -- What is known of a window that is still running is known up to the last prediction; a silence
        -- after that is known up to its end.
        toDateTime(ifNull(last_predicted_at, toDateTime64('2099-12-31', 3, 'UTC')), 'UTC')
            as known_until,
        arrayMap(
            window -> if(window.1 > known_until, window.2, least(window.2, known_until)), evaluated
        ) as known_ends,
        known_ends[opening] as opened_at,
        known_ends[breaching_positions[-1]] as last_seen_at,
        multiIf(
            resolving > 0, 'recovered',
            ifNull(active_version, '') not in ('', model_version), 'version_not_active',
            ''
        ) as resolution,
        known_ends[if(resolving > 0, toInt64(resolving), -1)] as end_at
    from incidents
    left join models using (model_name)
    left join muted_now on incidents.monitor_name = muted_now.muted_monitor

),

breaches as (

    select
        lower(hex(sipHash128(
            monitor_name, model_version, segment_value, feature_name, evaluated[opening].1
        ))) as breach_id,
        monitor_name,
        model_name,
        model_version,
        metric,
        segment_key,
        segment_value,
        feature_name,
        granularity,
        comparator,
        threshold,
        min_rows,
        windows_breaching,
        windows_considered,
        severity,
        actions,
        if(resolution = '', 'open', 'resolved') as status,
        resolution as reason,
        toNullable(opened_at) as opened_at,
        toNullable(last_seen_at) as last_seen_at,
        if(resolution = '', null, end_at) as resolved_at,
        if(
            resolution = '' and ifNull(silent_until, toDateTime(0, 'UTC')) != toDateTime(0, 'UTC'),
            silent_until,
            null
        ) as muted_until,
        toNullable(evaluated[breaching_positions[1]].1) as first_window_start,
        toNullable(evaluated[breaching_positions[-1]].1) as last_window_start,
        toUInt32(length(breaching_positions)) as breaching_window_count,
        toNullable(worst_value) as worst_value,
        toNullable(
            evaluated[breaching_positions[indexOf(breaching_values, worst_value)]].1
        ) as worst_window_start,
        toNullable(breaching_values[-1]) as last_value
    from dated

),

-- Windows that breach while their rule is muted are no incident, but nothing is hidden.
muted as (

    select
        lower(hex(sipHash128(
            monitor_name, model_version, segment_value, feature_name, 'muted', assumeNotNull(muted_from)
        ))) as breach_id,
        monitor_name,
        model_name,
        model_version,
        metric,
        segment_key,
        segment_value,
        feature_name,
        granularity,
        comparator,
        threshold,
        min_rows,
        windows_breaching,
        windows_considered,
        severity,
        actions,
        'muted' as status,
        any(mute_reason) as reason,
        toNullable(min(window_end)) as opened_at,
        toNullable(max(window_end)) as last_seen_at,
        null as resolved_at,
        max(monitored_windows.muted_until) as muted_until,
        toNullable(min(window_start)) as first_window_start,
        toNullable(max(window_start)) as last_window_start,
        toUInt32(count()) as breaching_window_count,
        if(comparator in ('>', '>='), max(metric_value), min(metric_value)) as worst_value,
        if(
            comparator in ('>', '>='),
            argMax(toNullable(window_start), (metric_value, -toUnixTimestamp(window_start))),
            argMin(toNullable(window_start), (metric_value, toUnixTimestamp(window_start)))
        ) as worst_window_start,
        argMax(metric_value, window_start) as last_value
    from monitored_windows
    where is_breaching_while_muted
    group by {{ rule_columns }}, {{ series_columns }}, muted_from

),

rule_obstacles as (

    select
        monitor_name,
        countIf(obstacle = '') as evaluated_count,
        arrayStringConcat(arraySort(groupUniqArray(obstacle)), ',') as obstacles
    from monitored_windows
    group by monitor_name

),

not_evaluated as (

    select
        lower(hex(sipHash128(rules.monitor_name, row_number() over (
            partition by rules.monitor_name order by rules.model_name, rules.metric, rules.threshold
        )))) as breach_id,
        rules.monitor_name as monitor_name,
        rules.model_name as model_name,
        '' as model_version,
        rules.metric as metric,
        rules.segment_key as segment_key,
        '' as segment_value,
        rules.feature_name as feature_name,
        rules.granularity as granularity,
        rules.comparator as comparator,
        rules.threshold as threshold,
        rules.min_rows as min_rows,
        rules.windows_breaching as windows_breaching,
        rules.windows_considered as windows_considered,
        rules.severity as severity,
        rules.actions as actions,
        'not_evaluated' as status,
        multiIf(
            rules.problem != '', rules.problem,
            ifNull(rule_obstacles.obstacles, '') != '', ifNull(rule_obstacles.obstacles, ''),
            'no_windows'
        ) as reason,
        null as opened_at,
        null as last_seen_at,
        null as resolved_at,
        null as muted_until,
        null as first_window_start,
        null as last_window_start,
        0 as breaching_window_count,
        null as worst_value,
        null as worst_window_start,
        null as last_value
    from rules
    left join rule_obstacles on rules.monitor_name = rule_obstacles.monitor_name
    where ifNull(rule_obstacles.evaluated_count, 0) = 0

),

unioned as (

    select * from breaches
    union all
    select * from muted
    union all
    select * from not_evaluated

)

select * from unioned
{%- endmacro %}
