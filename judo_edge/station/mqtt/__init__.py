"""MQTT: a broker is told of every result, of the station's state and of its conditions.

Topics below `<topic>/<station>`: `result` (QoS 1, at least once, in order, not retained: a subscriber that comes later
must not take an earlier part's verdict for its own), `state` (QoS 1, retained, with a last will) and `condition`
(QoS 1). `payload` says what is in them. Importing this package needs no MQTT library; `link` does.
"""
