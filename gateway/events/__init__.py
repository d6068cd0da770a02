"""What happens to objects, told to others: rules, durable queues, messages, targets.

A commit that changes an object of a watched bucket appends its events to their targets' queues
(noting.py); couriers of the background process deliver them (courier.py): docs/specs/events.md.
"""
