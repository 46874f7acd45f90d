"""The station: trigger and camera in, exactly one durable verdict per trigger out.

A supervisor and its processes: the hub (states, jobs, deadlines, ledger), cameras, the inspector, and the façades
(OPC UA, web page, MQTT), which know the station only by `api`. Importing this package loads nothing of a façade.
"""
