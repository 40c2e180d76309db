{{ config(order_by='(model_name, monitor_name)') }}

-- The rules of monitors.csv and those that features.csv implies, each with what is wrong with it.
{{ monitor_rules(ref('monitors'), ref('features')) }}
