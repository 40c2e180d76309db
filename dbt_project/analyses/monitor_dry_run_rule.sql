{#- One rule, given by the statement's parameters as text, with what is wrong with it: the row that it would
    have in int_monitor_rules. -#}
with candidate_monitors as (

    {{ candidate_rule() }}

),

no_features as (

    select * from {{ ref('features') }}
    where false

),

final as (

    {{ monitor_rules('candidate_monitors', 'no_features') }}

)

select * from final
