"""What a Postfix configuration lets happen to mail: a list of small checks over one frozen value.

The configuration is read elsewhere (`deliverypools.adapters.postfix_configuration`); here it is only judged.
"""
