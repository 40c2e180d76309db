{#- What one rule, given by the statement's parameters as monitor_dry_run_rule has it, would find as of now:
    the rows that it would have in int_breaches_found, made by the same SQL, and written nowhere. -#}
with candidate_rules as (

    {{ checked_rule() }}

),

candidate_windows as (

    {{ monitored_windows('candidate_rules', ref('int_monitor_mutes')) }}

),

found as (

    {{ breaches_found('candidate_rules', 'candidate_windows', ref('int_monitor_mutes')) }}

)

select * from found
order by opened_at, model_version, segment_value, feature_name
