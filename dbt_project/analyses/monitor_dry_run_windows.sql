{#- What windows one rule, given by the statement's parameters as monitor_dry_run_rule has it, looks at: how
    many count and breach, and why the others do not count. -#}
with candidate_rules as (

    {{ checked_rule() }}

),

candidate_windows as (

    {{ monitored_windows('candidate_rules', ref('int_monitor_mutes')) }}

)

select
    obstacle,
    count() as window_count,
    sum(is_breaching) as breaching_count,
    sum(is_breaching_while_muted) as muted_breaching_count,
    uniqExact(model_version, segment_value, feature_name) as series_count,
    min(window_start) as first_window_start,
    max(window_end) as last_window_end
from candidate_windows
group by obstacle
order by obstacle
